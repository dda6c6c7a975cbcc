"""The sampling variance of measures for which neither a formula nor the bootstrap is right.

The bootstrap draws images repeatedly, and an image that was drawn twice is its own nearest neighbor: measures of
nearest neighbors change their meaning. Subsamples are drawn without replacement instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from medsynth.contracts import counter_seed

LARGEST = 500  # images of a group on one side
REPETITIONS = 10  # partitions into groups at least, and so many that there are 30 differences between groups
DIFFERENCES = 30
FINE_FROM = 200  # images of a group from which on groups are divided by 4 instead of 2

# Numbers of the images on both sides, (n,) and (m,) -> values (S,).
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]


def sampling_variance(statistic: Statistic, counts: tuple[int, int], *, smallest: int, seed: int) -> np.ndarray:
    """Estimate the variances (S,) of a statistic of two samples by the sampling of both.

    Politis, Romano, Wolf 1999, "Subsampling", with the rate estimated as in their chapter 8 (Bertail, Politis, Romano
    1999). Both sides are divided at random into groups that share no image, so that the values of the groups are
    independent. The variance between groups is that at their size; it falls with the number of images to a power
    between 0 and 1, which the comparison with smaller groups shows. Power 1 is the rule; near 0 a few outlying
    images decide the value.

    Args:
        statistic: takes the numbers of images on both sides to values (S,).
        counts: images on both sides.
        smallest: images of a group on each side at least.
        seed: of the groups.

    Returns:
        Variances at ``counts``; NaN where there are too few images for groups.
    """
    coarse = max(2, math.ceil(max(counts) / LARGEST))
    while coarse > 2 and min(counts) // coarse < FINE_FROM:  # the smaller side limits the number of groups
        coarse -= 1
    division = 4 if min(counts) // coarse >= FINE_FROM else 2
    if min(counts) // (division * coarse) < smallest:
        return np.full(len(statistic(*map(np.arange, counts))), math.nan)
    random = np.random.default_rng(counter_seed("subsampling", seed))
    repetitions = max(REPETITIONS, math.ceil(DIFFERENCES / (coarse - 1)))
    variances = [
        np.mean([_between_groups(statistic, counts, groups, random) for _ in range(repetitions)], axis=0)
        for groups in (coarse, division * coarse)
    ]
    of_coarse, of_fine = (np.maximum(values, 1e-12) for values in variances)
    power = np.clip(np.log(of_fine / of_coarse) / math.log(division), 0, 1)
    return variances[0] / coarse**power


def _between_groups(
    statistic: Statistic, counts: tuple[int, int], groups: int, random: np.random.Generator
) -> np.ndarray:
    """Return the variances (S,) of the statistic between groups of one random partition."""
    orders = [random.permutation(count) for count in counts]
    sizes = [min(count // groups, LARGEST) for count in counts]
    values = [
        statistic(*(order[group * size : (group + 1) * size] for order, size in zip(orders, sizes, strict=True)))
        for group in range(groups)
    ]
    return np.var(values, axis=0, ddof=1)
