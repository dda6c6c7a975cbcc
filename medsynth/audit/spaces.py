"""Nearness of images to those of another set, in the features of networks and in pixels after alignment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from medsynth.audit.alignment import ANGLES, Alignment, Spectrum, merged
from medsynth.metrics.extractor_module import ExtractorModule
from medsynth.metrics.feature_store import FeatureStore, ImageDescriber
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.nearest import nearest

PIXELS = "aligned_pixels"  # the space without a network
NEIGHBORS = 20  # nearest images of which the first is compared with the others
RELATIVE = 0.25  # exponent of the mean distance of the others, chosen on phantoms and head CT: docs/privacy.md
_LEAST = 1e-12


@dataclasses.dataclass(frozen=True)
class Nearness:
    """The nearest images of each image.

    Attributes:
        score: float64 (N,): the distance to the nearest image over the fourth root of the mean distance to the next
            ones. It is low for a copy, and less so than the distance for images that are near to many.
        distance: float64 (N,), to the nearest image.
        rows: int64 (N, k): the numbers of the nearest images, the nearest first.
    """

    score: np.ndarray
    distance: np.ndarray
    rows: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """The number of the nearest image, int64 (N,)."""
        return self.rows[:, 0]


class Spaces:
    """Feature spaces and the aligned pixels, in which images are compared with others.

    Args:
        store: computes and keeps features.
        extractors: networks by a text that differs for different options.
        training: the images by which frequencies are weighted.
    """

    def __init__(self, store: FeatureStore, extractors: Mapping[str, ExtractorModule], training: ImageSet) -> None:
        self._store, self._extractors = store, dict(extractors)
        self._size = training.read([0]).shape[-1]
        self._spectra = {spectrum.name: spectrum for spectrum in (Spectrum(self._size, angle) for angle in ANGLES)}
        self._upright = next(iter(self._spectra))
        self._alignment = Alignment(self._features(training)[self._upright], self._size)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the spaces."""
        return (PIXELS, *(extractor.name for extractor in self._extractors.values()))

    def nearest(self, images: ImageSet, others: ImageSet, *, mirrored: bool = True) -> dict[str, Nearness]:
        """Return by space the nearness of ``images`` to ``others``.

        The next images, with which the nearest is compared, are of other patients than the nearest one's if known.

        Args:
            images: whose nearest images are searched for.
            others: among which they are searched for.
            mirrored: search in networks' features with mirrored images too; aligned pixels always do.
        """
        of_images, of_others = self._features(images, rotations=True), self._features(others)
        of_mirrored = self._features(_mirrored(images), spectra=False) if mirrored else of_images
        rotations = [of_images[key] for key in self._spectra]
        count = min(NEIGHBORS, others.count)
        found = {PIXELS: self._alignment.nearest(rotations, of_others[self._upright], count)}
        for key, extractor in self._extractors.items():
            upright = nearest(of_images[key], of_others[key], count)
            flipped = nearest(of_mirrored[key], of_others[key], count) if mirrored else upright
            found[extractor.name] = merged(upright, flipped)
        return {name: _nearness(*pair, others.groups) for name, pair in found.items()}

    def _features(self, images: ImageSet, *, spectra: bool = True, rotations: bool = False) -> dict[str, np.ndarray]:
        describers: dict[str, ImageDescriber] = dict(self._extractors)
        if spectra:
            describers |= self._spectra if rotations else {self._upright: self._spectra[self._upright]}
        return self._store.features(images, describers) if describers else {}


def _mirrored(images: ImageSet) -> ImageSet:
    def read(numbers: Sequence[int]) -> Tensor:
        return images.read(numbers).flip(-1)

    key = None if images.key is None else {**images.key, "mirrored": True}
    return dataclasses.replace(images, name=f"mirrored {images.name}", read=read, key=key)


def _nearness(distances: np.ndarray, rows: np.ndarray, groups: np.ndarray | None) -> Nearness:
    """Compare the nearest distance with the others of (N, k), those of the nearest one's patient left out."""
    others = np.ones(distances.shape, dtype=bool)
    others[:, 0] = False
    if groups is not None:
        apart = groups[rows] != groups[rows[:, :1]]
        others = np.where(apart.any(1, keepdims=True), apart, others)
    mean = (distances * others).sum(1) / np.maximum(others.sum(1), 1)
    first = np.maximum(distances[:, 0], _LEAST)
    return Nearness(first / np.maximum(mean, _LEAST) ** RELATIVE, distances[:, 0], rows)
