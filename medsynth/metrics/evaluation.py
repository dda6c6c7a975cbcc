"""All measures of generated images against real ones, on the features of all extractors and without features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch

from medsynth.contracts import InputError
from medsynth.metrics.appearance import (
    BINS,
    intensity_distance,
    intensity_histograms,
    intensity_value,
    radial_spectra,
    spectrum_distance,
    spectrum_value,
)
from medsynth.metrics.baseline import Sides
from medsynth.metrics.extractor_module import ExtractorModule
from medsynth.metrics.feature_store import FeatureStore, ImageDescriber
from medsynth.metrics.image_set import ImageSet, spread
from medsynth.metrics.label_agreement import label_agreement
from medsynth.metrics.measures import Measure, distance_measure, of_features
from medsynth.metrics.pairs import WINDOW, lpips_of_pairs, ms_ssim_of_pairs


class Evaluation:
    """Compute the features of real and generated images, and all measures on them.

    Args:
        store: computes and keeps features.
        real: the reference.
        fake: the generated images, of the same size and channels.
        training: real images that are not in the reference; None: there are none.
        extractors: by a text that differs for different options, such as their configuration.
        pairs: pairs of images for MS-SSIM and LPIPS.
        seed: of subsets, pairs and intervals.
        lpips: network of the perceptual distance of pairs, such as ``pairs.lpips_network``; None: it is left out.

    Raises:
        InputError: images or features that are not finite, or all equal.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        real: ImageSet,
        fake: ImageSet,
        training: ImageSet | None,
        extractors: Mapping[str, ExtractorModule],
        pairs: int,
        seed: int,
        lpips: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.real, self.fake, self.training = real, fake, training
        self.extractors, self.pairs, self.seed, self.lpips = dict(extractors), pairs, seed, lpips
        described: dict[str, ImageDescriber] = {row.name: row for row in _without_network(real.read([0]).shape[-1])}
        of_real, of_fake = (store.features(images, {**described, **extractors}) for images in (real, fake))
        of_training = {} if training is None else store.features(training, {**described, **extractors})
        self._sides = {key: Sides(of_real[key], of_fake[key], of_training.get(key)) for key in of_real}

    def measures(self) -> list[Measure]:
        """Return the measures of all images."""
        return [*self._of(self._sides), *self._labels_shown(), *self._diversity(self.real, self.fake)]

    def of_classes(self, class_names: tuple[str, ...]) -> dict[str, list[Measure]]:
        """Return the measures of the images of each class, by its name.

        Raises:
            InputError: a side has no labels, or fewer than two images of a class.
        """
        labels = _labels(self.real, self.fake, self.training)
        return {name: self._of_class(labels, number, name) for number, name in enumerate(class_names)}

    def _of_class(self, labels: Sides, number: int, name: str) -> list[Measure]:
        real = _subset_of_class(self.real, labels.real, number, name)
        fake = _subset_of_class(self.fake, labels.fake, number, name)
        sides = {key: rows.of_class(labels, number) for key, rows in self._sides.items()}
        return [*self._of(sides), *self._diversity(real, fake)]

    def _of(self, sides: Mapping[str, Sides]) -> Iterator[Measure]:
        for key, extractor in self.extractors.items():
            yield from of_features(extractor, sides[key], seed=self.seed)
        without_network = {
            "intensity_distance": (intensity_distance, intensity_value),
            "spectrum_distance": (spectrum_distance, spectrum_value),
        }
        for name, (distance, value) in without_network.items():
            if name not in sides:
                continue
            yield distance_measure(name, sides[name], partial(distance, seed=self.seed), value, seed=self.seed)

    def _labels_shown(self) -> Iterator[Measure]:
        """Yield the share of generated images that show their label, where both sides have labels."""
        if self.real.labels is None or self.fake.labels is None:
            return
        training = None if self.training is None else self.training.labels
        labels = Sides(self.real.labels, self.fake.labels, training)
        for key, extractor in self.extractors.items():
            shown = label_agreement(self._sides[key], labels)
            if shown is not None:
                of_fake, of_real = shown
                name, counted = f"label_agreement_{extractor.name}", (self.real.count, self.fake.count)
                measure = Measure(name, "baseline", of_fake, *counted, of_real.value)
                yield dataclasses.replace(measure, at_baseline=of_fake.value)

    def _diversity(self, real: ImageSet, fake: ImageSet) -> Iterator[Measure]:
        """Yield MS-SSIM and LPIPS of pairs; the baselines are those of as many real pairs."""
        count = min(real.count, fake.count, 2 * self.pairs)
        samples = [images.read(spread(images.count, count)) for images in (real, fake)]
        of_pairs = {"ms_ssim": ms_ssim_of_pairs} if samples[0].shape[-1] >= WINDOW else {}
        if self.lpips is not None:
            of_pairs["lpips"] = partial(lpips_of_pairs, network=self.lpips)
        for name, measure in of_pairs.items():
            of_real, of_fake = (measure(images, pairs=self.pairs, seed=self.seed) for images in samples)
            yield Measure(name, "baseline", of_fake, count, count, of_real.value, (count, count), of_fake.value)


def check_classes(real: ImageSet, fake: ImageSet, training: ImageSet | None, class_names: tuple[str, ...]) -> None:
    """Refuse sets that cannot be measured class by class, before their features are computed.

    Raises:
        InputError: a side has no labels, or fewer than two images of a class.
    """
    labels = _labels(real, fake, training)
    for number, name in enumerate(class_names):
        _subset_of_class(real, labels.real, number, name)
        _subset_of_class(fake, labels.fake, number, name)


def _labels(real: ImageSet, fake: ImageSet, training: ImageSet | None) -> Sides:
    sets = [real, fake, *([] if training is None else [training])]
    labels = [images.labels for images in sets if images.labels is not None]
    if len(labels) < len(sets):
        raise InputError("per_class=true needs labels on both sides, real and generated: per_class=false.")
    return Sides(labels[0], labels[1], labels[2] if len(labels) > 2 else None)


def _subset_of_class(images: ImageSet, labels: np.ndarray, number: int, name: str) -> ImageSet:
    rows = np.flatnonzero(labels == number)
    if len(rows) < 2:
        raise InputError(
            f"The class {name} has {len(rows)} {images.name} images, and its measures need 2: per_class=false, or more "
            "images."
        )
    return images.subset(rows)


class _Rows:
    """A row of numbers for each image, computed without a network (``feature_store.ImageDescriber``)."""

    def __init__(self, name: str, num_features: int, describe: Callable[[torch.Tensor], np.ndarray]) -> None:
        self.name, self.num_features, self._describe = name, num_features, describe

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        return self._describe(images)


def _without_network(size: int) -> tuple[_Rows, ...]:
    """Return what describes images of ``size`` pixels without a network; one pixel has no spectrum."""
    frequencies = radial_spectra(torch.zeros(1, 1, size, size)).shape[1]
    intensities = _Rows("intensity_distance", BINS + 1, intensity_histograms)
    return (intensities, _Rows("spectrum_distance", frequencies, radial_spectra)) if frequencies else (intensities,)
