"""What each factor does to a metric: means with the seeds' spread, and differences between runs that are else equal.

Only runs that completed have a value. The spread is that of seeds alone: the standard deviation between runs whose
factors are all equal, pooled over such cells; it says nothing of how much the other factors matter.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medsynth.report.estimates import Estimate, mean_interval, pooled_deviation, welch_interval
from medsynth.report.factors import SEED, Factor, factors, value_of
from medsynth.report.option_values import typed_value
from medsynth.report.run import Run
from medsynth.runs.status import COMPLETED, DUPLICATE

Cells = dict[tuple[str, ...], dict[str, float]]  # values of factors -> seed -> value of the metric
_HIGHER = ("precision", "recall", "density", "coverage", "inception_score", "is", "images_per_second")


@dataclass(frozen=True)
class Effect:
    """All runs with one value of a factor.

    Attributes:
        mean: over the ``count`` runs that completed; None: there are none.
        spread: the seeds', within cells of equal factors; None: no cell has two seeds.
        runs: all of them, also those without a value, but no duplicates.
    """

    factor: Factor
    value: str
    mean: float | None
    spread: float | None
    count: int
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class PairedDifference:
    """By how much the metric is higher at ``a`` than at ``b``.

    Attributes:
        low, high: 95 % interval by Student's t; None: a single pair, or too few runs.
        pairs: of runs that agree in all other factors and the seed, or of means over seeds that agree in the factors.
            0: nothing is paired, ``difference`` is that of the means of all runs, and the interval is Welch's.
    """

    factor: Factor
    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    pairs: int


def better(metric: str) -> str:
    """``higher`` for precision, recall, density, coverage and scores, else ``lower``, as for every objective."""
    name = metric.rpartition("/")[2]
    return "higher" if any(name == known or name.startswith(f"{known}_") for known in _HIGHER) else "lower"


def completed(runs: Sequence[Run], metric: str) -> dict[Run, float]:
    """The runs that completed and know ``metric``, with its value."""
    values = {run: run.value(metric) for run in runs if run.status == COMPLETED}
    return {run: value for run, value in values.items() if value is not None}


def causes(runs: Sequence[Run]) -> list[Factor]:
    """The factors but for the seed, which repeats runs."""
    return [factor for factor in factors(runs) if factor.key != SEED]


def cells(measured: Mapping[Run, float], by: Sequence[Factor]) -> Cells:
    """Runs by their values of ``by`` and their seed; those that agree in all of it are one, with their mean."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run, value in measured.items():
        found[tuple(value_of(run, factor) for factor in by)][typed_value(run, SEED)].append(value)
    return {key: {seed: statistics.fmean(values) for seed, values in seeds.items()} for key, seeds in found.items()}


def seed_spread(runs: Sequence[Run], metric: str) -> float | None:
    """The seeds' standard deviation within cells of equal factors; None: no cell has two seeds."""
    return _spread(completed(runs, metric), causes(runs))


def effects(runs: Sequence[Run], metric: str) -> list[Effect]:
    """One for each value of each factor."""
    measured, by, found = completed(runs, metric), causes(runs), []
    for factor in factors(runs):
        for value in factor.values:
            own = tuple(run for run in runs if run.status != DUPLICATE and value_of(run, factor) == value)
            known = {run: measured[run] for run in own if run in measured}
            mean = statistics.fmean(known.values()) if known else None
            found.append(Effect(factor, value, mean, _spread(known, by), len(known), own))
    return found


def differences(runs: Sequence[Run], metric: str, factor: Factor | None = None) -> list[PairedDifference]:
    """One for each two values of ``factor`` (None: of each factor) that have completed runs, the earlier value first.

    Runs are paired that agree in all other factors and the seed; where fewer than two pairs do, their means over seeds
    that agree in all other factors; else none. Each interval holds by itself, not all of them together.
    """
    measured, found = completed(runs, metric), []
    for one in [factor] if factor else factors(runs):
        others = [other for other in causes(runs) if other.key != one.key]
        sides = {v: cells({r: m for r, m in measured.items() if value_of(r, one) == v}, others) for v in one.values}
        for a, b in itertools.combinations([value for value in one.values if sides[value]], 2):
            estimate, pairs = _compared(sides[a], sides[b])
            found.append(PairedDifference(one, a, b, *estimate, pairs))
    return found


def pareto(runs: Sequence[Run], cost: str, metric: str, direction: str | None = None) -> set[Run]:
    """Completed runs that no other beats: none is at least as good in both, and better in one.

    ``cost`` ("seconds", "memory_gib", "weights.generator") is lower for the better; ``direction`` says whether
    ``metric`` is, as "lower" or "higher"; None: as ``better`` knows it.
    """
    sign = -1 if (direction or better(metric)) == "higher" else 1
    costs = completed(runs, cost)
    points = {run: (costs[run], sign * value) for run, value in completed(runs, metric).items() if run in costs}
    return {
        run
        for run, point in points.items()
        if not any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points.values())
    }


def _spread(measured: Mapping[Run, float], by: Sequence[Factor]) -> float | None:
    return pooled_deviation([list(seeds.values()) for seeds in cells(measured, by).values()])


def _compared(first: Cells, second: Cells) -> tuple[Estimate, int]:
    shared = [cell for cell in first if cell in second]
    seeds = [first[cell][seed] - second[cell][seed] for cell in shared for seed in first[cell] if seed in second[cell]]
    means = [statistics.fmean(first[cell].values()) - statistics.fmean(second[cell].values()) for cell in shared]
    every = [[value for seeds in side.values() for value in seeds.values()] for side in (first, second)]
    for pairs in (seeds, means):
        if len(pairs) > 1:
            return mean_interval(pairs), len(pairs)
    if min(map(len, every)) > 1 or not means:
        return welch_interval(*every), 0
    return mean_interval(seeds or means), 1
