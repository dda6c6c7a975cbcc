"""Kernel distances of two sets of features: unbiased at any number of images, and so the first choice for few.

The squared maximum mean discrepancy (Gretton et al. 2012), E k(x, x') + E k(y, y') - 2 E k(x, y).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, normal_interval

_BLOCK = 1024  # rows of the kernel matrix at a time, so that memory does not grow with N squared
_FOR_BANDWIDTH = 2000  # images whose distances give the bandwidth

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 for rows (N, d), (M, d): (N, M) (Bińkowski et al. 2018)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_subsets(
    real: np.ndarray, fake: np.ndarray, *, subset_size: int, subsets: int, seed: int
) -> tuple[float, float]:
    """KID as published: mean and standard deviation over random subsets without replacement of both sides.

    ``subset_size`` is at most the number of images on either side.
    """
    assert 2 <= subset_size <= min(len(real), len(fake))
    rng = np.random.default_rng(counter_seed("kernel_subsets", seed))
    values = []
    for _ in range(subsets):
        x = np.asarray(real[np.sort(rng.choice(len(real), subset_size, replace=False))], dtype=np.float64)
        y = np.asarray(fake[np.sort(rng.choice(len(fake), subset_size, replace=False))], dtype=np.float64)
        values.append(squared_mmd(x, y, polynomial)[0])
    return float(np.mean(values)), float(np.std(values))


def kernel(real: np.ndarray, fake: np.ndarray, *, seed: int) -> Estimate:
    """KID's distance on all images at once; may be slightly negative, its mean is 0 for equal distributions.

    ``seed`` is not used: nothing is drawn.
    """
    return _estimate(real, fake, polynomial)


def gaussian_kernel(real: np.ndarray, fake: np.ndarray, *, seed: int) -> Estimate:
    """The same with a Gaussian kernel, times 1000, like CMMD (Jayasumana et al. 2024).

    The bandwidth is the median distance of real images, at most 2000 of them drawn by the seed, instead of the 10 that
    suits the unit vectors of CLIP: features of other networks have other scales.
    """
    rng = np.random.default_rng(counter_seed("bandwidth", seed))
    some = real[np.sort(rng.permutation(len(real))[:_FOR_BANDWIDTH])].astype(np.float64)
    squared = _squared_distances(some, some)[np.triu_indices(len(some), 1)]
    width = max(float(np.median(squared)), 1e-30)
    estimate = _estimate(real, fake, lambda x, y: np.exp(-_squared_distances(x, y) / (2 * width)))
    return Estimate(*(1000 * value for value in (estimate.value, estimate.low, estimate.high)))


def _estimate(real: np.ndarray, fake: np.ndarray, of: Kernel) -> Estimate:
    value, of_real, of_fake = squared_mmd(real, fake, of)
    # The jackknife of a U-statistic: its error is the mean of each image's own part in it (Hoeffding 1948).
    variance = 4 * (of_real.var(ddof=1) / len(real) + of_fake.var(ddof=1) / len(fake))
    return normal_interval(value, variance**0.5)


def squared_mmd(real: np.ndarray, fake: np.ndarray, of: Kernel) -> tuple[float, np.ndarray, np.ndarray]:
    """(unbiased squared MMD, the parts (N,) and (M,) of each image in it), by blocks of rows."""
    within_real, within_fake = _row_means(real, real, of), _row_means(fake, fake, of)
    between_real, between_fake = _row_means(real, fake, of), _row_means(fake, real, of)
    value = within_real.mean() + within_fake.mean() - 2 * between_real.mean()
    return float(value), within_real - between_real, within_fake - between_fake


def _row_means(x: np.ndarray, y: np.ndarray, of: Kernel) -> np.ndarray:
    """Mean of k(x_i, y_j) over j; over j other than i where both are the same set."""
    same, means = x is y, np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        rows = np.asarray(x[start : start + _BLOCK], dtype=np.float64)
        total = np.zeros(len(rows))
        for other in range(0, len(y), _BLOCK):
            columns = np.asarray(y[other : other + _BLOCK], dtype=np.float64)
            values = of(rows, columns)
            if same and start == other:
                np.fill_diagonal(values, 0.0)
            total += values.sum(1)
        means[start : start + _BLOCK] = total / (len(y) - same)
    return means


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return squared.clip(0)
