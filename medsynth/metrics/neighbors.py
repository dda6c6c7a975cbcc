"""Measures by nearest neighbors: precision, recall, density, coverage, and the memorization of training images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from medsynth.metrics.interval import Estimate, bootstrap_mean
from medsynth.metrics.pairwise import Block, observe_pairs

_BLOCK = 1024  # rows and columns of a matrix of cosines at a time
NEAREST_OF_HELD_OUT = 0.05  # of the held-out images lie nearer to a training image than the threshold


class Neighbors:
    """Fidelity and diversity by balls around each image with its k-th nearest neighbor of the same side on the border.

    * ``precision``: part of the fakes inside the ball of a real image (Kynkäänniemi et al. 2019);
    * ``recall``: part of the real images inside the ball of a fake (the same);
    * ``density``: real balls that a fake lies in, over k; exceeds 1 where fakes crowd (Naeem et al. 2020);
    * ``coverage``: part of the real images whose ball holds a fake (the same).

    Balls are open, as in the reference implementation of density and coverage. All four depend on N: compare at the
    same numbers. The intervals are the bootstrap's over fakes (precision, density) or real images (recall, coverage)
    and conditional on the other side and on the balls; they say nothing where a value is exactly 0 or 1.

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

    def estimates(self, *, seed: int = 0) -> dict[str, Estimate]:
        """Return the four values with intervals, after all pairs; ``seed`` is of the bootstrap."""
        holding = self._holding.numpy()
        parts = {
            "precision": holding > 0,
            "recall": self._recalled.numpy(),
            "density": holding / self.k,
            "coverage": self._covered.numpy(),
        }
        return {name: bootstrap_mean(values, seed) for name, values in parts.items()}

    def _smallest(self, known: Tensor, more: Tensor) -> Tensor:
        found = more.topk(min(self.k, more.shape[1]), dim=1, largest=False, sorted=False).values
        return torch.cat([known, found], dim=1).topk(self.k, dim=1, largest=False, sorted=False).values


def precision_recall_density_coverage(
    real: np.ndarray, fake: np.ndarray, *, k: int = 5, seed: int = 0
) -> dict[str, Estimate]:
    """Compute the values of ``Neighbors`` for the features (N, d) and (M, d)."""
    neighbors = Neighbors(len(real), len(fake), k=k)
    observe_pairs(real, fake, [neighbors])
    return neighbors.estimates(seed=seed)


def memorization(training: np.ndarray, fake: np.ndarray, held_out: np.ndarray, *, seed: int = 0) -> dict[str, Estimate]:
    """Compare the distances of fakes and of held-out real images to the training images.

    * ``memorization_distance``: mean over fakes of the cosine distance 1 - abs(cos) to the nearest training image
      (Bai et al. 2021, the memorization-informed FID); low where images were copied;
    * ``held_out_distance``: the same of the held-out images, which is what new images have;
    * ``copies``: part of the fakes that are nearer to a training image than all but the nearest 5 % of the
      held-out images; about 0.05 where fakes are new, 1 where all are copies. With fewer than 19 held-out images the
      threshold is the nearest of them, and 1 / (their number + 1) is to be expected.

    Intervals are the bootstrap's over the images of one side, conditional on all others.

    Args:
        training: features (N, d), at least one; zeros are at distance 1.
        fake: features (M, d).
        held_out: features (L, d) of real images that were not trained on.
        seed: of the bootstrap.
    """
    of_fake, of_held_out = _nearest_cosine(fake, training), _nearest_cosine(held_out, training)
    # The Weibull quantile is the one below which a new value lies with just this probability.
    threshold = np.quantile(of_held_out, NEAREST_OF_HELD_OUT, method="weibull")
    parts = {
        "memorization_distance": of_fake,
        "held_out_distance": of_held_out,
        "copies": of_fake < threshold,
    }
    return {name: bootstrap_mean(values, seed) for name, values in parts.items()}


def _nearest_cosine(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 - abs(cos) (N,) of each row to the row of ``others`` for which it is least."""
    greatest = torch.zeros(len(features), dtype=torch.float64)
    for rows, x in _blocks(features):
        for _, y in _blocks(others):
            greatest[rows] = torch.maximum(greatest[rows], (x @ y.T).abs_().amax(1))
    return 1 - greatest.clamp(max=1).numpy()


def _blocks(features: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of rows, and these rows scaled to length 1."""
    for first in range(0, len(features), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(features)))
        block = torch.as_tensor(np.array(features[rows], dtype=np.float64))
        yield rows, torch.nn.functional.normalize(block, dim=1, eps=1e-300)
