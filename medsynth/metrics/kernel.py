"""Kernel distances of two sets of features: unbiased at any number of images, and so the first choice for few.

The squared maximum mean discrepancy (Gretton et al. 2012), E k(x, x') + E k(y, y') - 2 E k(x, y).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, normal_interval

_BLOCK = 1024  # rows of the kernel matrix at a time, so that memory does not grow with N squared
_FOR_BANDWIDTH = 2000  # images whose distances give the bandwidth

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 for rows (N, d), (M, d): (N, M) (Bińkowski et al. 2018)."""
    values = x @ (y.T / x.shape[1])
    values += 1
    return values * values * values  # a power of arrays takes ten times as long


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
    # The jackknife of a U-statistic: its error is twice the mean of each image's own part in it (Hoeffding 1948).
    variance = 4 * (of_real.var(ddof=1) / len(real) + of_fake.var(ddof=1) / len(fake))
    return normal_interval(value, float(variance) ** 0.5)


def squared_mmd(real: np.ndarray, fake: np.ndarray, of: Kernel) -> tuple[float, np.ndarray, np.ndarray]:
    """(unbiased squared MMD, the parts (N,) and (M,) of each image in it), by blocks of the kernel matrices."""
    between_real, between_fake = np.zeros(len(real)), np.zeros(len(fake))
    for rows in _blocks(real):
        for columns in _blocks(fake):
            values = of(_rows(real, rows), _rows(fake, columns))
            between_real[rows] += values.sum(1)
            between_fake[columns] += values.sum(0)
    of_real = _within(real, of) - between_real / len(fake)
    of_fake = _within(fake, of) - between_fake / len(real)
    return float(of_real.mean() + of_fake.mean()), of_real, of_fake


def _within(features: np.ndarray, of: Kernel) -> np.ndarray:
    """Mean of k(x_i, x_j) over j other than i; each pair of blocks is computed once and serves both."""
    sums = np.zeros(len(features))
    for rows in _blocks(features):
        for columns in _blocks(features, start=rows.start):
            values = of(_rows(features, rows), _rows(features, columns))
            if rows == columns:
                np.fill_diagonal(values, 0.0)
            else:
                sums[columns] += values.sum(0)
            sums[rows] += values.sum(1)
    return sums / (len(features) - 1)


def _blocks(features: np.ndarray, start: int = 0) -> Iterator[slice]:
    for first in range(start, len(features), _BLOCK):
        yield slice(first, min(first + _BLOCK, len(features)))


def _rows(features: np.ndarray, rows: slice) -> np.ndarray:
    return np.asarray(features[rows], dtype=np.float64)


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return squared.clip(0)
