"""A value with its 95 % interval, and how intervals are made for values of different kinds.

``scripts/simulate_intervals.py`` measures how often they hold the expected value; docs/intervals.md has its table.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy import stats as scipy_stats  # pyright: ignore[reportMissingTypeStubs]

stats: Any = scipy_stats  # without types

Z = 1.959964  # of the normal distribution: 95 % lie within plus and minus this many standard deviations
# Of Student's t with 30 degrees of freedom: for variances that are estimated from about so many subsamples.
T_OF_SUBSAMPLES = 2.042272


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval, which are NaN if they are not known."""

    value: float
    low: float = math.nan
    high: float = math.nan


def mean_interval(values: np.ndarray) -> Estimate:
    """Return the mean of independent values (N,) with the interval of Student's t; no interval for a single value."""
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return Estimate(mean, mean - half, mean + half)


def share_interval(share: float, count: int, variance: float) -> Estimate:
    """Return a share of ``count`` images with the interval of Jeffreys (Brown, Cai, DasGupta 2001, section 4).

    Where images are not independent of each other, ``variance`` is larger than that of ``count`` independent ones; the
    interval is that of the number of independent images which would have it. At the shares 0 and 1 the interval
    has a width, too: 0 of 200 gives 0 to 0.013.
    """
    if math.isnan(variance):
        return Estimate(share)
    inner = (share * count + 2) / (count + 4)  # Agresti, Coull 1998: no variance of 0 at the edges
    independent = min(inner * (1 - inner) / max(variance, 1e-300), count)
    inside, outside = share * independent + 0.5, (1 - share) * independent + 0.5
    tail = stats.norm.sf(T_OF_SUBSAMPLES)
    low = 0.0 if share == 0 else float(stats.beta.ppf(tail, inside, outside))
    high = 1.0 if share == 1 else float(stats.beta.isf(tail, inside, outside))
    return Estimate(share, min(low, share), max(high, share))


def count_interval(mean: float, count: int, variance: float, *, unit: float) -> Estimate:
    """Return a mean count per image, in units of 1 / ``unit``, with a score interval for overdispersed counts.

    The variance of a count grows in proportion to the count (Poisson, or a multiple of it). The ends are the means
    from which ``mean`` lies as far as the error allows at those means. At 0 the interval has a width, too.
    """
    if math.isnan(variance):
        return Estimate(mean)
    dispersion = max(variance * count / max(mean, 1 / count), 1 / unit)  # 1 / unit: independent single events
    middle = mean + T_OF_SUBSAMPLES**2 * dispersion / (2 * count)
    half = math.sqrt(max(middle**2 - mean**2, 0.0))
    return Estimate(mean, max(middle - half, 0.0), middle + half)


def distance_interval(value: float, variance: float, growing: float) -> Estimate:
    """Return a distance with its interval, which is wider upwards.

    The sampling variance of a squared distance grows in proportion to it, apart from a part that is there at 0. The
    upper end is the distance from which ``value`` lies as far below as the error allows at that distance; the lower
    end is that of the normal distribution.

    Args:
        value: the distance.
        variance: of its sampling, estimated at ``value``.
        growing: the part of the variance that grows in proportion.
    """
    error = math.sqrt(variance)
    slope = growing / max(value, error, 1e-300)
    above = Z**2 * slope / 2 + math.sqrt(Z**2 * variance + (Z**2 * slope / 2) ** 2)
    return Estimate(float(value), float(value - Z * error), float(value + above))
