"""Effects of factors on a metric: means with the spread between seeds, and differences between otherwise equal runs.

Only runs that completed have a value. The spread is that between seeds alone: the standard deviation between runs whose
factors are all equal, pooled over such cells; it does not include the effects of other factors.
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
from medsynth.report.run_files import entry
from medsynth.runs.status import COMPLETED, DUPLICATE

Cells = dict[tuple[str, ...], dict[str, float]]  # values of factors -> seed -> value of the metric
# Where no file of the runs tells the direction of a metric, as in those of version 0.1:
_HIGHER = ("precision", "recall", "density", "coverage", "inception_score", "is", "images_per_second")


@dataclass(frozen=True)
class Effect:
    """All runs with one value of a factor.

    Attributes:
        factor: the factor.
        value: its value in these runs.
        mean: mean of the metric over the ``count`` runs that completed; None: there are none.
        spread: standard deviation between seeds, within cells of equal factors; None: no cell has two seeds.
        count: number of runs that completed.
        runs: all of the runs, also those without a value, but no duplicates.
    """

    factor: Factor
    value: str
    mean: float | None
    spread: float | None
    count: int
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class PairedDifference:
    """The difference of a metric between two values of a factor, ``a`` minus ``b``.

    Attributes:
        factor: the factor.
        a: its first value.
        b: its second value.
        difference: mean difference of the metric.
        low: lower end of the 95 % interval by Student's t; None: a single pair, or too few runs.
        high: its upper end.
        pairs: number of pairs of runs that agree in all other factors and the seed, or of means over seeds that agree
            in the factors. 0: nothing is paired, ``difference`` is that of the means of all runs, and the interval is
            Welch's.
    """

    factor: Factor
    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def excludes_zero(self) -> bool:
        """True if the interval is known, has a width, and excludes 0."""
        return (
            self.low is not None and self.high is not None and self.low < self.high and not self.low <= 0 <= self.high
        )


def better(metric: str, runs: Sequence[Run] = ()) -> str:
    """Return which values of ``metric`` are better, "lower" or "higher".

    This is what the summaries (``better``) or evaluations of ``runs`` say. If they do not, "higher" for precision,
    recall, density, coverage and inception scores, else "lower", as for every objective.
    """
    for run in runs:
        recorded = entry(run.summary, "better", metric)
        of_measures = {
            f"val/{row['name']}": row.get("better") for record in run.evaluations for row in record["measures"]
        }
        known = [direction for direction in (recorded, of_measures.get(metric)) if direction in ("lower", "higher")]
        if known:
            return known[0]
    name = metric.rpartition("/")[2]
    return "higher" if any(name == known or name.startswith(f"{known}_") for known in _HIGHER) else "lower"


def completed(runs: Sequence[Run], metric: str) -> dict[Run, float]:
    """Return the runs that completed and have a value of ``metric``, with the value."""
    values = {run: run.value(metric) for run in runs if run.status == COMPLETED}
    return {run: value for run, value in values.items() if value is not None}


def factors_without_seed(runs: Sequence[Run]) -> list[Factor]:
    """Return the factors of ``runs`` but for the seed, which only repeats runs."""
    return [factor for factor in factors(runs) if factor.key != SEED]


def cells(measured: Mapping[Run, float], by: Sequence[Factor]) -> Cells:
    """Group runs by their values of ``by`` and their seed; runs that agree in all of it count once, by their mean."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run, value in measured.items():
        found[tuple(value_of(run, factor) for factor in by)][typed_value(run, SEED)].append(value)
    return {key: {seed: statistics.fmean(values) for seed, values in seeds.items()} for key, seeds in found.items()}


def seed_spread(runs: Sequence[Run], metric: str) -> float | None:
    """Return the standard deviation between seeds within cells of equal factors; None: no cell has two seeds."""
    return _spread(completed(runs, metric), factors_without_seed(runs))


def effects(runs: Sequence[Run], metric: str) -> list[Effect]:
    """Return the effect of each value of each factor."""
    measured, by, found = completed(runs, metric), factors_without_seed(runs), []
    for factor in factors(runs):
        for value in factor.values:
            own = tuple(run for run in runs if run.status != DUPLICATE and value_of(run, factor) == value)
            known = {run: measured[run] for run in own if run in measured}
            mean = statistics.fmean(known.values()) if known else None
            found.append(Effect(factor, value, mean, _spread(known, by), len(known), own))
    return found


def differences(runs: Sequence[Run], metric: str, factor: Factor | None = None) -> list[PairedDifference]:
    """Return a difference for each two values of ``factor`` (None: of each factor) that have completed runs.

    Runs that agree in all other factors and the seed are paired; if there are fewer than two such pairs, means over
    seeds that agree in all other factors are; else nothing is. Each interval has its 95 % by itself, not jointly.
    """
    measured, found = completed(runs, metric), []
    for one in [factor] if factor else factors(runs):
        others = [other for other in factors_without_seed(runs) if other.key != one.key]
        sides = {v: cells({r: m for r, m in measured.items() if value_of(r, one) == v}, others) for v in one.values}
        for a, b in itertools.combinations([value for value in one.values if sides[value]], 2):
            estimate, pairs = _difference(sides[a], sides[b])
            found.append(PairedDifference(one, a, b, *estimate, pairs))
    return found


def pareto(runs: Sequence[Run], cost: str, metric: str, direction: str | None = None) -> set[Run]:
    """Return the Pareto front: completed runs that no other run equals in both and exceeds in one.

    Lower values of ``cost`` ("seconds", "memory_gib", "parameters.generator") are better; ``direction`` tells which
    values of ``metric`` are, "lower" or "higher"; None: see ``better``.
    """
    sign = -1 if (direction or better(metric, runs)) == "higher" else 1
    costs = completed(runs, cost)
    points = {run: (costs[run], sign * value) for run, value in completed(runs, metric).items() if run in costs}
    return {
        run
        for run, point in points.items()
        if not any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points.values())
    }


def _spread(measured: Mapping[Run, float], by: Sequence[Factor]) -> float | None:
    return pooled_deviation([list(seeds.values()) for seeds in cells(measured, by).values()])


def _difference(first: Cells, second: Cells) -> tuple[Estimate, int]:
    shared = [cell for cell in first if cell in second]
    seeds = [first[cell][seed] - second[cell][seed] for cell in shared for seed in first[cell] if seed in second[cell]]
    means = [statistics.fmean(first[cell].values()) - statistics.fmean(second[cell].values()) for cell in shared]
    a, b = ([value for seeds in side.values() for value in seeds.values()] for side in (first, second))
    for pairs in (seeds, means):
        if len(pairs) > 1:
            return mean_interval(pairs), len(pairs)
    if min(len(a), len(b)) > 1 or not means:
        return welch_interval(a, b), 0
    return mean_interval(seeds or means), 1
