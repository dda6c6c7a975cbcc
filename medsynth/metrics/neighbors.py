"""What nearest neighbors tell: which images are believable, how much of the real variety is there, what is copied.

All is computed in float64 by blocks of rows and columns: memory grows with N, not with N squared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medsynth.metrics.interval import Estimate, bootstrap_mean

_BLOCK = 2048  # rows and columns of a distance matrix at a time
NEAREST_OF_HELD_OUT = 0.05  # of the held-out images lie nearer to a training image than the threshold


def precision_recall_density_coverage(
    real: np.ndarray, fake: np.ndarray, *, k: int = 5, seed: int = 0
) -> dict[str, Estimate]:
    """Fidelity and diversity by balls around each image that reach to its k-th nearest neighbor of the same side.

    * ``precision``: part of the fakes inside the ball of a real image (Kynkäänniemi et al. 2019);
    * ``recall``: part of the real images inside the ball of a fake (the same);
    * ``density``: real balls that a fake lies in, over k; exceeds 1 where fakes crowd (Naeem et al. 2020);
    * ``coverage``: part of the real images whose ball holds a fake (the same).

    Balls are open, as in the reference implementation of density and coverage. All four depend on N: compare at the
    same numbers. The intervals are the bootstrap's over fakes (precision, density) or real images (recall, coverage)
    and conditional on the other side and on the balls; they say nothing where a value is exactly 0 or 1.

    Args:
        real, fake: (N, d) and (M, d), more than ``k`` of each.
        k: which neighbor.
        seed: of the bootstrap.
    """
    assert min(len(real), len(fake)) > k >= 1
    center = _mean(real)
    real_radii, fake_radii = _squared_radii(real, center, k), _squared_radii(fake, center, k)
    holding, recalled = np.zeros(len(fake)), np.zeros(len(real), dtype=bool)
    covered = np.zeros(len(real), dtype=bool)
    for rows, x in _blocks(real, center):
        for columns, y in _blocks(fake, center):
            squared = _squared_distances(x, y)
            inside = squared < real_radii[rows, None]
            holding[columns] += inside.sum(0)
            covered[rows] |= inside.any(1)
            recalled[rows] |= (squared < fake_radii[columns]).any(1)
    parts = {"precision": holding > 0, "recall": recalled, "density": holding / k, "coverage": covered}
    return {name: bootstrap_mean(values, seed) for name, values in parts.items()}


def memorization(training: np.ndarray, fake: np.ndarray, held_out: np.ndarray, *, seed: int = 0) -> dict[str, Estimate]:
    """How near fakes lie to training images, as against real images that were not trained on.

    * ``memorization_distance``: mean over fakes of the cosine distance 1 - abs(cos) to the nearest training image
      (Bai et al. 2021, the memorization-informed FID); low where images were copied;
    * ``held_out_distance``: the same of the held-out images, which is what new images have;
    * ``copies``: part of the fakes that are nearer to a training image than all but the nearest 5 % of the
      held-out images; about 0.05 where fakes are new, 1 where all are copies. With fewer than 19 held-out images the
      threshold is the nearest of them, and 1 / (their number + 1) is to be expected.

    Intervals are the bootstrap's over the images of one side, conditional on all others.

    Args:
        training, fake, held_out: (N, d), (M, d) and (L, d), at least one of each; zeros are at distance 1.
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


def _squared_radii(features: np.ndarray, center: np.ndarray, k: int) -> np.ndarray:
    """Squared distance (N,) to the k-th nearest other row; each pair of blocks is computed once and serves both."""
    nearest = np.full((len(features), k), np.inf)
    for rows, x in _blocks(features, center):
        for columns, y in _blocks(features, center, start=rows.start):
            squared = _squared_distances(x, y)
            if rows == columns:
                np.fill_diagonal(squared, np.inf)
            else:
                nearest[columns] = _smallest(nearest[columns], squared.T, k)
            nearest[rows] = _smallest(nearest[rows], squared, k)
    return nearest.max(1)


def _smallest(known: np.ndarray, more: np.ndarray, k: int) -> np.ndarray:
    return np.partition(np.concatenate([known, more], axis=1), k - 1, axis=1)[:, :k]


def _nearest_cosine(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 - abs(cos) (N,) of each row to the row of ``others`` for which it is least."""
    greatest, origin = np.zeros(len(features)), np.zeros(features.shape[1])
    for rows, x in _blocks(features, origin):
        for _, y in _blocks(others, origin):
            cosines = np.abs(_normalized(x) @ _normalized(y).T).max(1)
            greatest[rows] = np.maximum(greatest[rows], cosines)
    return 1 - greatest.clip(max=1)


def _normalized(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _mean(features: np.ndarray) -> np.ndarray:
    return np.add.reduce(features, axis=0, dtype=np.float64) / len(features)


def _blocks(features: np.ndarray, center: np.ndarray, start: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of rows and these rows less ``center``: near the origin, products lose fewer digits."""
    for first in range(start, len(features), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(features)))
        yield rows, np.asarray(features[rows], dtype=np.float64) - center


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = x @ (-2 * y.T)
    squared += (x**2).sum(1)[:, None]
    squared += (y**2).sum(1)
    return squared.clip(0, out=squared)
