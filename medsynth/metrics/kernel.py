"""Kernel distances of two sets of features: unbiased at any number of images, so best for few images.

The squared maximum mean discrepancy (Gretton et al. 2012), E k(x, x') + E k(y, y') - 2 E k(x, y).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, distance_interval
from medsynth.metrics.pairwise import Block, observe_pairs, squared_distances

_FOR_BANDWIDTH = 2000  # images whose distances give the bandwidth
# The part of the variance that grows with the distance counts this much in the interval, and at least that much of all
# variance, as near 0 it is estimated badly: with these, docs/intervals.md, intervals cover.
_GROWING, _GROWING_AT_LEAST = 0.6, 0.15


class KernelDistance:
    """The unbiased squared discrepancy on all images at once, times ``scale`` (pairwise.Observer).

    Args:
        num_real, num_fake: images on each side.
        kernel: block of pairs -> values (r, c) of the kernel.
        scale: of the result.
    """

    def __init__(self, num_real: int, num_fake: int, kernel: Callable[[Block], Tensor], *, scale: float = 1.0) -> None:
        self._kernel, self._scale = kernel, scale
        self._within = [torch.zeros(count, dtype=torch.float64) for count in (num_real, num_fake)]
        self._between = [torch.zeros(count, dtype=torch.float64) for count in (num_real, num_fake)]
        self._squares: dict[int | str, float] = {0: 0.0, 1: 0.0, "between": 0.0}  # sums of the kernel's squares

    def within(self, side: int, block: Block) -> None:
        """Add the kernel values of a block of pairs of one side."""
        values, sums = self._kernel(block), self._within[side]
        squares = float(values.square().sum())
        if block.diagonal:
            squares -= float(values.diagonal().square().sum())
            values.fill_diagonal_(0)  # unbiased: no image is compared with itself
        else:
            sums[block.columns] += values.sum(0)
            squares *= 2  # each pair of blocks is shown once
        sums[block.rows] += values.sum(1)
        self._squares[side] += squares

    def between(self, block: Block) -> None:
        """Add the kernel values of a block of pairs of a real and a fake image."""
        values = self._kernel(block)
        self._between[0][block.rows] += values.sum(1)
        self._between[1][block.columns] += values.sum(0)
        self._squares["between"] += float(values.square().sum())

    def estimate(self) -> Estimate:
        """Return value and interval, after all pairs."""
        counts = [len(sums) for sums in self._within]
        within = [sums / (count - 1) for sums, count in zip(self._within, counts, strict=True)]
        between = [self._between[0] / counts[1], self._between[1] / counts[0]]
        of_real, of_fake = within[0] - between[0], within[1] - between[1]  # the part of each image
        value = float(of_real.mean() + of_fake.mean())
        # The jackknife of a U-statistic: its error is twice the mean of each image's own part in it (Hoeffding 1948).
        jackknife = 4 * float(of_real.var() / counts[0] + of_fake.var() / counts[1])
        # It holds the variance of pairs twice, which does not grow with the distance.
        of_images = jackknife - 2 * self._variance_of_pairs(within, between)
        growing = max(_GROWING * of_images, _GROWING_AT_LEAST * jackknife)
        found = distance_interval(value, jackknife, growing)
        return Estimate(*(self._scale * end for end in (found.value, found.low, found.high)))

    def _variance_of_pairs(self, within: list[Tensor], between: list[Tensor]) -> float:
        """Return the part of the variance that is there without a distance: of pairs, apart from images' own parts."""
        n, m = map(len, within)
        total = 0.0
        for side, count in ((0, n), (1, m)):
            rows = within[side]
            square = self._squares[side] / (count * (count - 1)) - float(rows.mean()) ** 2
            total += 2 * max(square - 2 * float(rows.var()), 0.0) / (count * (count - 1))
        square = self._squares["between"] / (n * m) - float(between[0].mean()) ** 2
        return total + 4 * max(square - float(between[0].var() + between[1].var()), 0.0) / (n * m)


def polynomial(real: np.ndarray, fake: np.ndarray) -> KernelDistance:
    """Make the distance with KID's kernel (x.y / d + 1)^3 (Bińkowski et al. 2018); it may be slightly negative."""
    width = real.shape[1]

    def values(block: Block) -> Tensor:
        base = (block.products / width).add_(1)
        return base.square().mul_(base)

    return KernelDistance(len(real), len(fake), values)


def gaussian(real: np.ndarray, fake: np.ndarray, *, seed: int) -> KernelDistance:
    """Make the distance with a Gaussian kernel, times 1000, like CMMD (Jayasumana et al. 2024).

    The bandwidth is the median distance of real images, at most 2000 of them drawn by the seed, instead of the 10 that
    suits the unit vectors of CLIP: features of other networks have other scales.
    """
    rng = np.random.default_rng(counter_seed("bandwidth", seed))
    some = real[np.sort(rng.permutation(len(real))[:_FOR_BANDWIDTH])]
    pairs = np.triu_indices(len(some), 1)
    width = max(float(np.median(squared_distances(some).numpy()[pairs])), 1e-30)
    return KernelDistance(
        len(real), len(fake), lambda block: (block.squared_distances / (-2 * width)).exp_(), scale=1000
    )


def kernel(real: np.ndarray, fake: np.ndarray) -> Estimate:
    """Compute KID's distance on all images at once."""
    return _observed(real, fake, polynomial(real, fake))


def gaussian_kernel(real: np.ndarray, fake: np.ndarray, *, seed: int = 0) -> Estimate:
    """Compute the distance with a Gaussian kernel."""
    return _observed(real, fake, gaussian(real, fake, seed=seed))


def kernel_subsets(
    real: np.ndarray, fake: np.ndarray, *, subset_size: int, subsets: int, seed: int
) -> tuple[float, float]:
    """Compute KID as published: mean and standard deviation over random subsets of both sides.

    ``subset_size`` is at most the number of images on either side.
    """
    assert 2 <= subset_size <= min(len(real), len(fake))
    rng = np.random.default_rng(counter_seed("kernel_subsets", seed))
    values: list[float] = []
    for _ in range(subsets):
        x = real[np.sort(rng.choice(len(real), subset_size, replace=False))]
        y = fake[np.sort(rng.choice(len(fake), subset_size, replace=False))]
        values.append(kernel(x, y).value)
    return float(np.mean(values)), float(np.std(values))


def _observed(real: np.ndarray, fake: np.ndarray, distance: KernelDistance) -> Estimate:
    observe_pairs(real, fake, [distance])
    return distance.estimate()
