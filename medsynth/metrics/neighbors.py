"""Measures by nearest neighbors: precision, recall, density and coverage."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medsynth.metrics.interval import Estimate, count_interval, share_interval
from medsynth.metrics.pairwise import Block, observe_pairs
from medsynth.metrics.subsampling import sampling_variance


class Neighbors:
    """Fidelity and diversity by balls around each image with its k-th nearest neighbor of the same side on the border.

    * ``precision``: part of the fakes inside the ball of a real image (Kynkäänniemi et al. 2019);
    * ``recall``: part of the real images inside the ball of a fake (the same);
    * ``density``: real balls that a fake lies in, over k; exceeds 1 where fakes crowd (Naeem et al. 2020);
    * ``coverage``: part of the real images whose ball holds a fake (the same).

    Balls are open, as in the reference implementation of density and coverage. All four depend on N: compare at the
    same numbers.

    It is a pairwise.Observer.

    Args:
        num_real, num_fake: images on each side, more than ``k``.
        k: which neighbor.
    """

    def __init__(self, num_real: int, num_fake: int, *, k: int = 5) -> None:
        assert min(num_real, num_fake) > k >= 1
        self.k = k
        self._nearest = [torch.full((count, k), torch.inf, dtype=torch.float64) for count in (num_real, num_fake)]
        self._holding = torch.zeros(num_fake, dtype=torch.int64)
        self._covered, self._recalled = (torch.zeros(num_real, dtype=torch.bool) for _ in range(2))

    def within(self, side: int, block: Block) -> None:
        """Keep the distances of the nearest neighbors among the images of one side."""
        nearest, squared = self._nearest[side], block.squared_distances
        nearest[block.rows] = self._smallest(nearest[block.rows], squared)
        if not block.diagonal:
            nearest[block.columns] = self._smallest(nearest[block.columns], squared.T.contiguous())

    def between(self, block: Block) -> None:
        """Count which images lie within the neighborhoods of those of the other side."""
        squared = block.squared_distances
        real_radii, fake_radii = (nearest.amax(1) for nearest in self._nearest)
        inside = squared < real_radii[block.rows, None]
        self._holding[block.columns] += inside.sum(0)
        self._covered[block.rows] |= inside.any(1)
        self._recalled[block.rows] |= (squared < fake_radii[block.columns]).any(1)

    def values(self) -> dict[str, float]:
        """Return the four values by name, after all pairs."""
        return {
            "precision": float((self._holding > 0).double().mean()),
            "recall": float(self._recalled.double().mean()),
            "density": float(self._holding.double().mean()) / self.k,
            "coverage": float(self._covered.double().mean()),
        }

    def _smallest(self, known: Tensor, more: Tensor) -> Tensor:
        found = more.topk(min(self.k, more.shape[1]), dim=1, largest=False, sorted=False).values
        return torch.cat([known, found], dim=1).topk(self.k, dim=1, largest=False, sorted=False).values


def with_intervals(
    values: dict[str, float], real: np.ndarray, fake: np.ndarray, *, k: int, seed: int
) -> dict[str, Estimate]:
    """Add intervals to the values of ``Neighbors``: those of the sampling of real and of generated images.

    Args:
        values: those of ``real`` and ``fake``.
        real: features (N, d).
        fake: features (M, d).
        k: which neighbor.
        seed: of the subsamples.
    """

    def of_subsample(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        observer = Neighbors(len(rows), len(columns), k=k)
        observe_pairs(real[np.sort(rows)], fake[np.sort(columns)], [observer])
        return np.array(list(observer.values().values()))

    variances = sampling_variance(of_subsample, (len(real), len(fake)), smallest=2 * k, seed=seed)
    estimates: dict[str, Estimate] = {}
    for (name, value), variance in zip(values.items(), variances.tolist(), strict=True):
        count = len(fake) if name in ("precision", "density") else len(real)
        if name == "density":
            estimates[name] = count_interval(value, count, variance, unit=k)
        else:
            estimates[name] = share_interval(value, count, variance)
    return estimates


def precision_recall_density_coverage(
    real: np.ndarray, fake: np.ndarray, *, k: int = 5, seed: int = 0
) -> dict[str, Estimate]:
    """Compute the values of ``Neighbors`` with intervals for the features (N, d) and (M, d)."""
    neighbors = Neighbors(len(real), len(fake), k=k)
    observe_pairs(real, fake, [neighbors])
    return with_intervals(neighbors.values(), real, fake, k=k, seed=seed)
