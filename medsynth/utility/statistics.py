"""Intervals over seeds and test images, of a value and of a difference of two.

A value is measured with S seeds (other initial weights, batches, subsets and generated images) on one test set. Seeds
and test images are crossed: both vary the mean over the seeds, whose variance is estimated by

    V = V_seeds + V_images,    V_seeds = variance of the seeds' values / S,
    V_images = (G - 1) / G * sum over groups of (mean over the seeds without the group - mean of these)^2,

the jackknife that leaves out one of G groups of test images at a time; images of one patient are in one group. The
interaction of seeds and images is in both terms, so that V is a little too large rather than too small. The interval is
that of Student's t with the degrees of freedom of Satterthwaite (1946),

    V^2 / (V_seeds^2 / (S - 1) + V_images^2 / (G - 1)).

For a difference, the values of both sides are subtracted seed by seed and group by group first.
``scripts/benchmark_utility.py coverage`` measures how often the intervals hold the expected value: docs/utility.md.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy import stats as scipy_stats  # pyright: ignore[reportMissingTypeStubs]

from medsynth.contracts import counter_seed

stats: Any = scipy_stats  # without types
GROUPS = 20  # of test images


@dataclasses.dataclass(frozen=True)
class Measured:
    """A mean over seeds with its 95 % interval.

    Attributes:
        value: the mean.
        low, high: the ends of the interval; NaN if there is a single seed.
        p: two-sided, of the value 0.
    """

    value: float
    low: float
    high: float
    p: float


def image_groups(
    labels: np.ndarray | None, patients: np.ndarray | None, count: int, *, most: int = GROUPS
) -> np.ndarray:
    """Divide test images into groups of nearly equal size and classes that keep patients together.

    Args:
        labels: int64 (count,); None: the images have no classes.
        patients: int64 (count,), equal for images of one patient; None: each image is alone.
        count: of the images.
        most: groups; there are fewer if there are fewer patients.

    Returns:
        int64 (count,), from 0.
    """
    _, first, unit = np.unique(
        np.arange(count) if patients is None else patients, return_index=True, return_inverse=True
    )
    random = np.random.default_rng(counter_seed("utility", "groups")).permutation(len(first))
    order = random if labels is None else random[np.argsort(labels[first][random], kind="stable")]
    group_of_unit = np.empty(len(first), dtype=np.int64)
    group_of_unit[order] = np.arange(len(first)) % min(most, len(first))
    return group_of_unit[unit]


def measured(values: np.ndarray, without: np.ndarray) -> Measured:
    """Return the mean of the values of seeds with its interval; see the module for the formula.

    Args:
        values: (S,), on all test images.
        without: (S, G), without each of the groups.
    """
    seeds, groups = without.shape
    mean = float(np.mean(values))
    if seeds < 2 or groups < 2:
        return Measured(mean, math.nan, math.nan, math.nan)
    of_seeds = float(np.var(values, ddof=1)) / seeds
    of_images = float(np.var(without.mean(axis=0))) * (groups - 1)
    error = math.sqrt(of_seeds + of_images)
    if error == 0:
        return Measured(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    freedom = (of_seeds + of_images) ** 2 / (of_seeds**2 / (seeds - 1) + of_images**2 / (groups - 1))
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Measured(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)))
