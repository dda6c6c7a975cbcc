"""Pairs of phantoms for translation, of known physics: computed tomography from an MR-like image, or from a lower dose.

The target is a slice of computed tomography, mean m (the blurred slice) plus white noise of ``noise_hu``.

* ``mr_to_ct``: the source is the signal of a T1-weighted image of the same anatomy: a function of the HU that is not
  invertible, since air and compact bone are both dark, times a smooth bias field, with Rician noise. The target's noise
  is independent of it, so that the best prediction of the target is m, as far as the source tells the anatomy.
* ``denoising``: the source is the target with more noise, as at the fraction ``dose`` of its dose, which multiplies
  the variance of the noise by 1 / dose. Both are Gaussian given m: the best prediction is m + dose (source - m), and
  what is left has the variance noise_hu^2 (1 - dose).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_fill_holes  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from medsynth.contracts import Intensity
from medsynth.data.errors import check_choice
from medsynth.data.phantom.canvas import Array, Canvas
from medsynth.data.phantom.lesion import LesionType
from medsynth.data.phantom.rendered import RenderedImages, with_channels
from medsynth.data.phantom.source import ANATOMIES, BLUR, Phantoms
from medsynth.data.source import Datasets
from medsynth.data.unpaired_images import UnpairedImages
from medsynth.errors import InputError

KINDS = ("mr_to_ct", "denoising")
BRIGHTEST = 1000.0  # of the signal, in arbitrary units
BODY = -300.0  # HU above which a pixel is of the body, whose holes belong to it
_RING = 2.0, 6.0  # mm around a lesion and its rim that its surroundings begin and end at
# HU -> signal of a T1-weighted spin echo image: air, lung, fat, water, white matter, gray matter, muscle, blood, bone.
_HU = (-1000, -400, -150, -90, -60, -20, 4, 12, 24, 30, 38, 44, 55, 64, 75, 90, 200, 600, 1000)
_SIGNAL = (0, 60, 700, 950, 900, 400, 120, 130, 700, 690, 480, 460, 380, 560, 820, 700, 260, 60, 10)


class Lesion(NamedTuple):
    """A lesion in an image: its radius in mm, the fraction of each pixel in its core (H, W), and its surroundings."""

    radius: float
    core: Array
    ring: Array


@dataclasses.dataclass(kw_only=True)
class PhantomPairs(Phantoms):
    """A source of pairs of phantoms; the fields are the options ``data.source.*`` of conf/data/phantom_pairs.yaml.

    The targets are the images of ``Phantoms``, with the same labels. With ``paired`` false each training image gets the
    target of a phantom that is none of the sources', drawn by a counter, a new one in each epoch; validation and test
    images keep their own targets, so that errors are known.

    Attributes:
        source_intensity: the signal from 0 to ``BRIGHTEST``, or that of the targets.
        source_modality: MR or CT.

    Raises:
        InputError: an option has an impossible value.
    """

    kind: str = "mr_to_ct"
    dose: float = 0.05
    source_noise: float = 15.0
    bias_field: float = 0.15
    lesion_radius: Sequence[float] | None = None
    masks: bool = True
    paired: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("data.source.kind", self.kind, KINDS)
        if not 0 < self.dose <= 1:
            raise InputError(f"data.source.dose={self.dose} is not possible: choose a fraction of the dose, up to 1.")
        for name in ("source_noise", "bias_field"):
            if getattr(self, name) < 0:
                raise InputError(f"data.source.{name}={getattr(self, name)} is not possible: choose 0 or more.")
        radius = self.lesion_radius
        if radius is not None and not (len(radius) == 2 and 0 < radius[0] <= radius[1]):
            raise InputError(
                f"data.source.lesion_radius={list(radius)} is not possible: give [smallest,largest] in mm, above 0."
            )
        self.val_paired = True
        self.denoises = self.kind == "denoising"
        self.source_intensity = self.intensity if self.denoises else Intensity(0.0, BRIGHTEST, "signal")
        self.source_modality = "CT" if self.denoises else "MR"
        pairs = "pairs" if self.paired else "unpaired sets"
        self.description = f"{self.description} as {pairs} ({self.kind})"

    @property
    def content(self) -> str:
        """The options that the images depend on, as text; see medsynth.data.source.Source."""
        names = ("kind", "dose", "source_noise", "bias_field", "lesion_radius", "masks", "paired")
        return super().content + str({name: getattr(self, name) for name in names})

    @property
    def least_error(self) -> float:
        """The standard deviation, in HU, of the target around the best prediction from the source and the anatomy."""
        return self.noise_hu * (math.sqrt(1 - self.dose) if self.denoises else 1.0)

    def datasets(self) -> Datasets:
        """Return training, validation and test pairs; see medsynth.data.source.Source."""
        datasets = super().datasets()
        if self.paired:
            return datasets
        targets = PhantomPairImages(self, "train targets", len(datasets.train))
        return datasets._replace(train=UnpairedImages(datasets.train, targets, seed=self.seed, of="target"))

    def _samples(self, split: str, count: int, *, endless: bool = False) -> RenderedImages:
        return PhantomPairImages(self, split, count, endless=endless)

    def pair(self, split: str, index: int) -> tuple[Array, Array, Array]:
        """Render source and target in [-1, 1] and the mask of the body, 0 or 1, each ``(image_size, image_size)``."""
        canvas, mean, target = self._scanned(split, index)
        source = self._source(canvas, target, split, index)
        mask = binary_fill_holes(mean > BODY)
        return source, self._windowed(target, index), np.asarray(mask, dtype=np.float32)

    def conditional_mean(self, split: str, index: int) -> Array:
        """Return the best prediction of a target from its source and the anatomy, in [-1, 1]; see the module."""
        _, mean, target = self._scanned(split, index)
        if self.denoises:
            mean = mean + self.dose * (self._low_dose(target, split, index) - mean)
        return self._windowed(mean, index)

    def mean_image(self, split: str, index: int) -> Array:
        """Return a target without noise, in [-1, 1]."""
        return self._windowed(self._scanned(split, index)[1], index)

    def lesion_maps(self, split: str, index: int) -> list[Lesion]:
        """Return an image's lesions with the weights of the pixels in their cores and in the tissue around them."""
        canvas, site, shapes = self._paint(split, index, lesions=True)
        anatomy = self.anatomies[index % len(self.class_names) // len(self.classes)]
        rim = self._lesion_type(ANATOMIES[anatomy].lesion).rim
        outside = np.array(site.cover)
        for shape in shapes:
            outside *= 1 - canvas.covered(shape.grown(rim + _RING[0]))
        return [
            Lesion(
                math.sqrt(shape.a * shape.b),
                canvas.covered(shape) * site.cover,
                canvas.covered(shape.grown(rim + _RING[1])) * outside,
            )
            for shape in shapes
        ]

    def _scanned(self, split: str, index: int) -> tuple[Canvas, Array, Array]:
        """Return the painted slice, its mean image and the target, both in HU."""
        canvas = self._paint(split, index, lesions=True)[0]
        mean = canvas.blurred(canvas.hu, BLUR)
        rng = self._rng("noise", split, index)
        return canvas, mean, mean + self.noise_hu * rng.standard_normal(mean.shape, dtype=np.float32)

    def _source(self, canvas: Canvas, target: Array, split: str, index: int) -> Array:
        if self.denoises:
            return self._windowed(self._low_dose(target, split, index), index)
        rng = self._rng("signal", split, index)
        signal = canvas.blurred(np.interp(canvas.hu, _HU, _SIGNAL).astype(np.float32), BLUR)
        signal *= np.exp(self.bias_field * canvas.field(rng, 150.0))
        real, imaginary = self.source_noise * rng.standard_normal((2, *signal.shape), dtype=np.float32)
        return np.clip(np.hypot(signal + real, imaginary) * (2 / BRIGHTEST) - 1, -1, 1).astype(np.float32)

    def _low_dose(self, target: Array, split: str, index: int) -> Array:
        more = self.noise_hu * math.sqrt(1 / self.dose - 1)
        return target + more * self._rng("dose", split, index).standard_normal(target.shape, dtype=np.float32)

    def _lesion_type(self, of_anatomy: LesionType) -> LesionType:
        if self.lesion_radius is None:
            return of_anatomy
        smallest, largest = self.lesion_radius
        return dataclasses.replace(of_anatomy, radius=(smallest, largest))


class PhantomPairImages(RenderedImages):
    """Samples of pairs; see ``RenderedImages``.

    A sample is ``{"image" source (C, H, W) in [-1, 1], "target" likewise, "label" int, "index" int}``, and with masks
    "mask" (1, H, W), 1 in the body and 0 outside.
    """

    def __init__(self, source: PhantomPairs, split: str, count: int, *, endless: bool = False) -> None:
        shape = 3, source.image_size, source.image_size
        render = functools.partial(source.pair, split)
        super().__init__(render, shape, count, classes=len(source.class_names), endless=endless)
        self._channels, self._masks = source.channels, source.masks

    def sample(self, images: Tensor) -> dict[str, Tensor]:
        """Return source, target and mask (3, H, W), each with its channels."""
        source, target, mask = images
        pair = {"image": with_channels(source, self._channels), "target": with_channels(target, self._channels)}
        return pair | {"mask": mask[None]} if self._masks else pair
