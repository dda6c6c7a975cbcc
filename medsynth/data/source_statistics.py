"""Statistics of the images that a translator was trained to translate, by which others are told from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from medsynth.contracts import Intensity

IMAGES = 256  # of the training set, evenly spaced
QUANTILES = 33
TOLERANCE = 1.5  # times the largest distance of a training image from all of them
LEAST = 0.05  # of the range of values; images that are closer to the training images than this are like them


def source_statistics(
    dataset: Any,
    intensity: Intensity,
    *,
    modality: str,
    geometry: dict[str, Any] | None = None,
    normalization: dict[str, Any] | None = None,
    bounds: list[float] | None = None,
    neighbors: int = 0,
) -> dict[str, Any]:
    """Describe the values of training images, and what they went through.

    Args:
        dataset: samples with "image" (C, H, W) in [-1, 1]; ``len`` of them.
        intensity: of the images.
        modality: DICOM's code, "" where it is not known.
        geometry: the options of ``data.geometry.Geometry``; None: the images were not made of others.
        normalization: the options of ``data.intensity.Normalization``; None: the intensity is linear.
        bounds: the measured values that became -1 and 1, before an equalization; None: not known.
        neighbors: slices on either side of a source that are channels beside it.

    Returns:
        Plain values: "neighbors", "geometry", "normalization", "bounds", "modality", "mean" and "sd" in the unit of the
        intensity, "quantiles", ``QUANTILES`` of them from the lowest to the highest value, and "spread", the largest
        distance of one image's quantiles from these (``distance``) as a fraction of the intensity's range.
    """
    count = min(len(dataset), IMAGES)
    chosen = [dataset[number * len(dataset) // count]["image"] for number in range(count)]
    images = [intensity.to_physical(image).double().numpy().ravel() for image in chosen]
    quantiles, width = _quantiles(np.concatenate(images)), intensity.high - intensity.low
    return {
        "neighbors": neighbors,
        "geometry": geometry,
        "normalization": normalization,
        "bounds": bounds,
        "modality": modality,
        "mean": float(np.mean([image.mean() for image in images])),
        "sd": float(np.sqrt(np.mean([np.square(image).mean() for image in images]) - np.mean(images) ** 2)),
        "quantiles": quantiles.tolist(),
        "spread": max(float(np.abs(_quantiles(image) - quantiles).mean()) for image in images) / width,
    }


def distance(images: Sequence[Tensor], intensity: Intensity, statistics: dict[str, Any]) -> float:
    """Return the distance of images in [-1, 1] from training images: the area between their quantile functions.

    It is the Wasserstein distance of order 1 of the values, as a fraction of the intensity's range.
    """
    values = np.concatenate([intensity.to_physical(image).double().numpy().ravel() for image in images])
    area = np.abs(_quantiles(values) - np.asarray(statistics["quantiles"], float)).mean()
    return float(area / (intensity.high - intensity.low))


def limit(statistics: dict[str, Any]) -> float:
    """Return the distance beyond which images are not of the kind of the training images."""
    spread = float(statistics["spread"])
    return max(LEAST, TOLERANCE * spread) if math.isfinite(spread) else LEAST


def _quantiles(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, QUANTILES))
