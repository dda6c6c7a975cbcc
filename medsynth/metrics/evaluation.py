"""All measures of generated images against real ones, in the eyes of all extractors and of none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch

from medsynth.contracts import FeatureExtractor, InputError
from medsynth.metrics.appearance import (
    BINS,
    intensity_distance,
    intensity_histograms,
    radial_spectra,
    spectrum_distance,
)
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.image_set import ImageSet, spread
from medsynth.metrics.measures import Measure, Sides, distance_measure, of_features
from medsynth.metrics.pairs import WINDOW, lpips_of_pairs, ms_ssim_of_pairs


class Evaluation:
    """Features of real and generated images, computed on construction, and all measures on them.

    Args:
        store: computes and keeps features.
        real: the reference.
        fake: what is judged; of the same size and channels.
        training: real images that are not in the reference; None: there are none.
        extractors: by texts that tell them and their options apart.
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
        extractors: Mapping[str, FeatureExtractor],
        pairs: int,
        seed: int,
        lpips: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.real, self.fake, self.training = real, fake, training
        self.extractors, self.pairs, self.seed, self.lpips = dict(extractors), pairs, seed, lpips
        described = {row.name: row for row in _without_network(real.read([0]).shape[-1])}
        sides = [
            {} if images is None else store.features(images, {**described, **extractors})
            for images in (real, fake, training)
        ]
        self._sides = {key: Sides(*(side.get(key) for side in sides)) for key in sides[0]}

    def measures(self) -> list[Measure]:
        """Of all images."""
        return [*self._of(self._sides), *self._diversity(self.real, self.fake)]

    def of_classes(self, class_names: tuple[str, ...]) -> dict[str, list[Measure]]:
        """Class name -> the same for the images of that class.

        Raises:
            InputError: a side has no labels, or fewer than two images of a class.
        """
        sets = (self.real, self.fake, self.training)
        if any(images is not None and images.labels is None for images in sets):
            raise InputError("per_class=true needs labels on both sides, real and generated: per_class=false.")
        labels = Sides(*(None if images is None else images.labels for images in sets))
        return {name: self._of_class(labels, number, name) for number, name in enumerate(class_names)}

    def _of_class(self, labels: Sides, number: int, name: str) -> list[Measure]:
        chosen = [images.subset(np.flatnonzero(images.labels == number)) for images in self._filled(number, name)]
        sides = {key: rows.of_class(labels, number) for key, rows in self._sides.items()}
        return [*self._of(sides), *self._diversity(*chosen)]

    def _filled(self, number: int, name: str) -> tuple[ImageSet, ImageSet]:
        """The reference and what is judged, which have images of the class."""
        for images in (self.real, self.fake):
            count = int((images.labels == number).sum())
            if count < 2:
                raise InputError(
                    f"The class {name} has {count} {images.name} images, and its measures need 2: per_class=false, or "
                    "more images."
                )
        return self.real, self.fake

    def _of(self, sides: Mapping[str, Sides]) -> Iterator[Measure]:
        for key, extractor in self.extractors.items():
            yield from of_features(extractor, sides[key], seed=self.seed)
        for name, distance in (("intensity_distance", intensity_distance), ("spectrum_distance", spectrum_distance)):
            yield distance_measure(
                name, "lower", sides[name], lambda a, b, distance=distance: distance(a, b, seed=self.seed)
            )

    def _diversity(self, real: ImageSet, fake: ImageSet) -> Iterator[Measure]:
        """MS-SSIM and LPIPS of pairs, and the same of real pairs at equal N."""
        count = min(real.count, fake.count, 2 * self.pairs)
        samples = [images.read(spread(images.count, count)) for images in (real, fake)]
        of_pairs = {"ms_ssim": ms_ssim_of_pairs} if samples[0].shape[-1] >= WINDOW else {}
        if self.lpips is not None:
            of_pairs["lpips"] = partial(lpips_of_pairs, network=self.lpips)
        for name, measure in of_pairs.items():
            of_real, of_fake = (measure(images, pairs=self.pairs, seed=self.seed) for images in samples)
            yield Measure(name, "baseline", of_fake, count, count, of_real.value, (count, count))


class _Rows:
    """A short row for each image that needs no network, in the form of an extractor."""

    def __init__(self, name: str, num_features: int, describe: Callable[[torch.Tensor], np.ndarray]) -> None:
        self.name, self.num_features, self._describe = name, num_features, describe

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        return self._describe(images)


def _without_network(size: int) -> tuple[_Rows, _Rows]:
    frequencies = radial_spectra(torch.zeros(1, 1, size, size)).shape[1]
    return (
        _Rows("intensity_distance", BINS + 1, intensity_histograms),
        _Rows("spectrum_distance", frequencies, radial_spectra),
    )
