"""Means and their 95 % intervals by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

from scipy.stats import t as student

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval, None if there are too few numbers for an interval."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_interval(values: Sequence[float]) -> Estimate:
    """Estimate the mean of ``values``, for example of paired differences."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean)
    return _interval(mean, statistics.variance(values) / len(values), len(values) - 1)


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate mean(first) - mean(second); variances may differ (Welch 1947; degrees of freedom by Satterthwaite)."""
    difference = statistics.fmean(first) - statistics.fmean(second)
    if min(len(first), len(second)) < 2:
        return Estimate(difference)
    shares = [statistics.variance(side) / len(side) for side in (first, second)]
    if not any(shares):
        return Estimate(difference, difference, difference)
    down = sum(share**2 / (len(side) - 1) for share, side in zip(shares, (first, second), strict=True))
    return _interval(difference, sum(shares), sum(shares) ** 2 / down)


def pooled_deviation(cells: Collection[Sequence[float]]) -> float | None:
    """Return the standard deviation within ``cells``, pooled by degrees of freedom; None: no cell has two values."""
    freedom = sum(len(cell) - 1 for cell in cells)
    if not freedom:
        return None
    return math.sqrt(sum((len(cell) - 1) * statistics.variance(cell) for cell in cells if len(cell) > 1) / freedom)


def _interval(value: float, variance: float, freedom: float) -> Estimate:
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Estimate(value, value - half, value + half)
