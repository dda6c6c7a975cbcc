"""The classifier two-sample test: how well a classifier tells generated images from real ones by their features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn import discriminant_analysis  # pyright: ignore[reportMissingTypeStubs]

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, Z
from medsynth.metrics.roc import auc, auc_variance
from medsynth.metrics.standardization import Standardization

discriminant: Any = discriminant_analysis  # without types
FEWEST = 20  # images on each side
_SQUARED = 32  # principal components whose squares are given to the classifier, too


def two_sample_auc(real: np.ndarray, fake: np.ndarray, *, seed: int = 0) -> Estimate:
    """Estimate the area under the curve (AUC) of a classifier that tells fake from real (Lopez-Paz and Oquab 2017).

    0.5: the classifier cannot tell them apart; 1: it tells every pair. It is linear discriminant analysis with the
    shrinkage of Ledoit and Wolf (2004), of the features and of the squares of their first principal components, so that
    it sees differences of means and of spreads. Each half of the images is classified by what the other half taught.
    The value grows with the number of images, since the classifier learns more: compare at equal numbers.

    The interval follows from the variance of DeLong et al. (1988) of one half: the halves teach each other, so that
    their values are not independent.

    Args:
        real: features (N, d), 20 or more.
        fake: features (M, d), 20 or more.
        seed: of the halves.
    """
    random = np.random.default_rng(counter_seed("two_sample", seed))
    halves = [np.array_split(random.permutation(len(rows)), 2) for rows in (real, fake)]
    values: list[tuple[float, float]] = []
    for taught, tested in ((0, 1), (1, 0)):
        learned = real[halves[0][taught]], fake[halves[1][taught]]
        of_real, of_fake = _scores(learned, (real[halves[0][tested]], fake[halves[1][tested]]))
        values.append((auc(of_fake, of_real), auc_variance(of_fake, of_real)))
    value = sum(value for value, _ in values) / 2
    error = math.sqrt(sum(variance for _, variance in values) / 2)
    return Estimate(value, max(value - Z * error, 0.0), min(value + Z * error, 1.0))


def two_sample_value(real: np.ndarray, fake: np.ndarray, *, seed: int = 0) -> float:
    """Return the AUC alone."""
    return two_sample_auc(real, fake, seed=seed).value


def _scores(learned: tuple[np.ndarray, np.ndarray], tested: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Return the scores of tested real and fake images, higher for what is taken for generated."""
    together = np.concatenate(learned)
    standardized = Standardization(together)
    rows = standardized(together)
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    axes = axes[: min(_SQUARED, len(rows) // 8)][sizes[: min(_SQUARED, len(rows) // 8)] > 1e-3 * sizes[0]]
    scale = (rows @ axes.T).std(axis=0)

    def described(images: np.ndarray) -> np.ndarray:
        standard = standardized(images)
        return np.concatenate([standard, np.square(standard @ axes.T / scale)], axis=1)

    labels = np.repeat([0, 1], [len(learned[0]), len(learned[1])])
    classifier = discriminant.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    classifier.fit(described(together), labels)
    return [classifier.decision_function(described(side)) for side in tested]
