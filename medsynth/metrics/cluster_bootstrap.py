"""Intervals of means over images of which several are of one patient."""

from __future__ import annotations

import numpy as np

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate

RESAMPLES = 2000
_CHUNK = 2**22  # drawn numbers at a time


def cluster_mean(values: np.ndarray, groups: np.ndarray | None, *, seed: int) -> Estimate:
    """Return the mean of values with a 95 % interval by the bootstrap over groups.

    Groups are drawn with replacement, as many as there are, and with each all of its values; the ends are percentiles
    of the means (Davison, Hinkley 1997, section 3.8): where values of a patient are alike, the interval is as wide as
    patients vary. Equal groups and seeds draw the same groups, so that differences are paired.

    Args:
        values: (N,); those that are NaN are left out.
        groups: (N,), equal for values of one patient; None: each value is a group.
        seed: of the draws.

    Returns:
        Without an interval for fewer than two groups; NaN without any value.
    """
    groups = np.arange(len(values)) if groups is None else groups
    known = np.isfinite(values)
    if not known.any():
        return Estimate(float("nan"))
    _, members = np.unique(groups, return_inverse=True)
    sums = np.bincount(members[known], weights=values[known], minlength=members.max() + 1)
    counts = np.bincount(members[known], minlength=members.max() + 1)
    mean = float(sums.sum() / counts.sum())
    if np.count_nonzero(counts) < 2:
        return Estimate(mean)
    random = np.random.default_rng(counter_seed("cluster_mean", seed))
    means: list[np.ndarray] = []
    for start in range(0, RESAMPLES, step := max(1, _CHUNK // len(sums))):
        drawn = random.integers(len(sums), size=(min(step, RESAMPLES - start), len(sums)))
        total = counts[drawn].sum(axis=1)
        means.append(sums[drawn].sum(axis=1)[total > 0] / total[total > 0])
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Estimate(mean, float(low), float(high))
