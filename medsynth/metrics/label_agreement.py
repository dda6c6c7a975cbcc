"""The share of generated images that show their label, by a classifier that was taught on real images."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import discriminant_analysis  # pyright: ignore[reportMissingTypeStubs]

from medsynth.metrics.baseline import Sides
from medsynth.metrics.interval import Estimate, share_interval
from medsynth.metrics.standardization import Standardization

discriminant: Any = discriminant_analysis  # without types


def label_agreement(sides: Sides, labels: Sides) -> tuple[Estimate, Estimate] | None:
    """Return the share of generated images that are classified as their label, and that of real images.

    The classifier is linear discriminant analysis with the shrinkage of Ledoit and Wolf (2004). It is taught on the
    training images, or on every other reference image where there are none; the real images are those of the reference
    that did not teach it. None: fewer than two classes teach it, or no images are left.

    Args:
        sides: features.
        labels: int64 (N,) on each side.
    """
    if sides.training is not None and labels.training is not None:
        known, of_known, real, of_real = sides.training, labels.training, sides.real, labels.real
    else:
        known, of_known, real, of_real = sides.real[0::2], labels.real[0::2], sides.real[1::2], labels.real[1::2]
    if len(np.unique(of_known)) < 2 or not len(real):
        return None
    standardized = Standardization(known)
    classifier = discriminant.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    classifier.fit(standardized(known), of_known)

    def agreement(images: np.ndarray, of_images: np.ndarray) -> Estimate:
        right = classifier.predict(standardized(images)) == of_images
        return share_interval(float(right.mean()), len(right), float(right.var()) / len(right))

    return agreement(sides.fake, labels.fake), agreement(real, of_real)
