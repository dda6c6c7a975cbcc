"""Interaction of two factors: whether the effect of one depends on the value of the other."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsynth.report.effects import cells, completed, factors_without_seed, seed_spread
from medsynth.report.estimates import Estimate, mean_interval
from medsynth.report.factors import Factor, value_of
from medsynth.report.run import Run


@dataclass(frozen=True)
class Interaction:
    """Means of a metric by two factors, and their deviation from a sum of the factors' effects.

    Attributes:
        first: factor of the rows.
        second: factor of the columns.
        metric: name of the metric.
        means: rows are the values of ``first``, columns those of ``second``; None: no run there completed.
        counts: numbers of completed runs, in the same places.
        contrast: in a table of 2 x 2 the difference of differences, (top left - top right) - (bottom left - bottom
            right), with its 95 % interval over seeds and other factors; in a larger one the cell mean that is farthest
            from row mean + column mean - grand mean, less that sum, without an interval. None: cells are
            missing, or there are fewer than two rows or columns.
        low: lower end of that interval; None: it is not known.
        high: its upper end.
        sentence: the same in words.
    """

    first: Factor
    second: Factor
    metric: str
    means: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    contrast: float | None = None
    low: float | None = None
    high: float | None = None
    sentence: str = ""

    @property
    def excludes_zero(self) -> bool:
        """True if the interval is known and excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def interaction(runs: Sequence[Run], first: Factor, second: Factor, metric: str) -> Interaction:
    """Compute the table of means and its deviation from a sum of the two factors' effects."""
    measured = completed(runs, metric)
    table = [[_values(measured, {first: a, second: b}) for b in second.values] for a in first.values]
    means = tuple(tuple(statistics.fmean(cell) if cell else None for cell in row) for row in table)
    counts = tuple(tuple(map(len, row)) for row in table)
    found = Interaction(first, second, metric, means, counts)
    complete = [[mean for mean in row if mean is not None] for row in means]
    empty = sum(map(len, means)) - sum(map(len, complete))
    if empty or min(len(means), len(means[0])) < 2:
        sentence = f"It is not known whether {first.label} and {second.label} depend on each other: "
        return replace(found, sentence=f"{sentence}{empty} of their combinations have no completed run.")
    if (len(means), len(means[0])) == (2, 2):
        return _two_by_two(runs, found, complete)
    return _larger(runs, found, complete)


def _values(measured: Mapping[Run, float], at: Mapping[Factor, str]) -> list[float]:
    return [value for run, value in measured.items() if all(value_of(run, f) == level for f, level in at.items())]


def _two_by_two(runs: Sequence[Run], found: Interaction, means: list[list[float]]) -> Interaction:
    first, second, metric = found.first, found.second, found.metric
    (a, b), (c, d) = means
    contrasts = _contrasts(runs, first, second, metric)
    estimate = mean_interval(contrasts) if len(contrasts) > 1 else Estimate((a - b) - (c - d))
    found = replace(found, contrast=estimate.value, low=estimate.low, high=estimate.high)
    sentence = (
        f"{metric} at {second.label}={second.values[0]} minus that at {second.values[1]} is {a - b:.3g} if "
        f"{first.label}={first.values[0]} and {c - d:.3g} if {first.label}={first.values[1]}; "
    )
    if estimate.low is None:
        return replace(found, sentence=sentence + _against_spread(estimate.value, seed_spread(runs, metric)))
    shown = "shown to differ" if found.excludes_zero else "not shown to differ"
    sentence += f"over {len(contrasts)} repetitions these are {shown}, "
    return replace(found, sentence=f"{sentence}by {estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}].")


def _contrasts(runs: Sequence[Run], first: Factor, second: Factor, metric: str) -> list[float]:
    """Return differences of differences, one for each combination of seed and other factors that has all four runs."""
    others = [factor for factor in factors_without_seed(runs) if factor.key not in (first.key, second.key)]
    by_cell = cells(completed(runs, metric), [first, second, *others])
    corners = list(itertools.product(first.values, second.values))
    blocks = {(cell[2:], seed) for cell, seeds in by_cell.items() for seed in seeds}
    contrasts = []
    for rest, seed in sorted(blocks):
        values = [by_cell.get((*corner, *rest), {}).get(seed) for corner in corners]
        complete = [value for value in values if value is not None]
        if len(complete) == 4:
            a, b, c, d = complete
            contrasts.append((a - b) - (c - d))
    return contrasts


def _larger(runs: Sequence[Run], found: Interaction, means: list[list[float]]) -> Interaction:
    first, second = found.first, found.second
    table = np.array(means)
    sums = table.mean(1, keepdims=True) + table.mean(0, keepdims=True) - table.mean()
    row, column = np.unravel_index(np.argmax(np.abs(table - sums)), table.shape)
    deviation = float((table - sums)[row, column])
    sentence = (
        f"The largest deviation from a sum of both factors' effects is at {first.label}={first.values[row]}, "
        f"{second.label}={second.values[column]}, where the mean is {table[row, column]:.3g} and the sum "
        f"{sums[row, column]:.3g}; "
    )
    sentence += _against_spread(deviation, seed_spread(runs, found.metric))
    return replace(found, contrast=deviation, sentence=sentence)


def _against_spread(value: float, spread: float | None) -> str:
    if spread is None:
        return f"they differ by {abs(value):.3g}, and the spread between seeds is not known."
    comparison = "more" if abs(value) > spread else "no more"
    return f"they differ by {abs(value):.3g}, {comparison} than the spread between seeds of {spread:.2g}."
