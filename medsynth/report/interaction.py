"""Whether what one factor does depends on another one."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth.report.effects import causes, cells, completed, seed_spread
from medsynth.report.estimates import Estimate, mean_interval
from medsynth.report.factors import Factor, value_of
from medsynth.report.run import Run


@dataclass(frozen=True)
class Interaction:
    """Means of a metric by two factors.

    Attributes:
        means: rows are the values of ``first``, columns those of ``second``; None: no run there completed.
        counts: of completed runs, in the same places.
        contrast: of a table of 2 x 2 the difference of differences, (top left - top right) - (bottom left - bottom
            right), with its 95 % interval over seeds and other factors; of a larger one the cell mean that is farthest
            from row mean + column mean - grand mean, less that sum, without an interval. None: cells are
            missing, or there are fewer than two rows or columns.
        low, high: ends of that interval; None: it is not known.
        sentence: the same in words.
    """

    first: Factor
    second: Factor
    metric: str
    means: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    contrast: float | None
    low: float | None
    high: float | None
    sentence: str


def interaction(runs: Sequence[Run], first: Factor, second: Factor, metric: str) -> Interaction:
    """The table of means, and how far it is from a sum of the two factors' effects."""
    measured = completed(runs, metric)
    table = [[_values(measured, {first: a, second: b}) for b in second.values] for a in first.values]
    means = tuple(tuple(statistics.fmean(cell) if cell else None for cell in row) for row in table)
    counts = tuple(tuple(map(len, row)) for row in table)
    found = (first, second, metric, means, counts)
    empty = sum(mean is None for row in means for mean in row)
    if empty or min(len(means), len(means[0])) < 2:
        sentence = f"Whether {first.label} and {second.label} depend on each other cannot be said: "
        sentence += f"{empty} of their combinations have no completed run."
        return Interaction(*found, None, None, None, sentence)
    if (len(means), len(means[0])) == (2, 2):
        return _of_four(runs, found)
    return _of_more(runs, found)


def _values(measured: Mapping[Run, float], at: Mapping[Factor, str]) -> list[float]:
    return [value for run, value in measured.items() if all(value_of(run, f) == level for f, level in at.items())]


def _of_four(runs: Sequence[Run], found: tuple) -> Interaction:
    first, second, metric, ((a, b), (c, d)), _ = found
    contrasts = _contrasts(runs, first, second, metric)
    estimate = mean_interval(contrasts) if len(contrasts) > 1 else Estimate((a - b) - (c - d))
    sentence = (
        f"{metric} at {second.label}={second.values[0]} less that at {second.values[1]} is {a - b:.3g} where "
        f"{first.label}={first.values[0]} and {c - d:.3g} where {first.label}={first.values[1]}; "
    )
    if estimate.low is None:
        return Interaction(*found, *estimate, sentence + _against_spread(estimate.value, seed_spread(runs, metric)))
    shown = "not shown to differ" if estimate.low <= 0 <= estimate.high else "shown to differ"
    sentence += f"over {len(contrasts)} repetitions these are {shown}, "
    sentence += f"by {estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]."
    return Interaction(*found, *estimate, sentence)


def _contrasts(runs: Sequence[Run], first: Factor, second: Factor, metric: str) -> list[float]:
    """Differences of differences, one for each combination of seed and other factors that has all four runs."""
    others = [factor for factor in causes(runs) if factor.key not in (first.key, second.key)]
    by_cell = cells(completed(runs, metric), [first, second, *others])
    corners = list(itertools.product(first.values, second.values))
    blocks = {(cell[2:], seed) for cell, seeds in by_cell.items() for seed in seeds}
    four = [[by_cell.get((*corner, *rest), {}).get(seed) for corner in corners] for rest, seed in sorted(blocks)]
    return [(a - b) - (c - d) for a, b, c, d in four if None not in (a, b, c, d)]


def _of_more(runs: Sequence[Run], found: tuple) -> Interaction:
    first, second, metric, means, _ = found
    table = np.array(means)
    sums = table.mean(1, keepdims=True) + table.mean(0, keepdims=True) - table.mean()
    row, column = np.unravel_index(np.argmax(np.abs(table - sums)), table.shape)
    apart = float((table - sums)[row, column])
    sentence = (
        f"The mean at {first.label}={first.values[row]}, {second.label}={second.values[column]} is "
        f"{table[row, column]:.3g} where the sum of both factors' effects is {sums[row, column]:.3g}, more apart than "
        "anywhere else; "
    )
    return Interaction(*found, apart, None, None, sentence + _against_spread(apart, seed_spread(runs, metric)))


def _against_spread(value: float, spread: float | None) -> str:
    if spread is None:
        return f"they are {abs(value):.3g} apart, and no seeds' spread is known to judge that by."
    word = "more" if abs(value) > spread else "no more"
    return f"they are {abs(value):.3g} apart, {word} than the seeds' spread of {spread:.2g}."
