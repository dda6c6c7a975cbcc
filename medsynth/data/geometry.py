"""Geometric preparation: raw images of any size to squares of one size, and random views of these."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    CenterSpatialCrop,  # pyright: ignore[reportPrivateImportUsage]
    Compose,  # pyright: ignore[reportPrivateImportUsage]
    CropForeground,  # pyright: ignore[reportPrivateImportUsage]
    RandFlip,  # pyright: ignore[reportPrivateImportUsage]
    RandRotate,  # pyright: ignore[reportPrivateImportUsage]
    ResizeWithPadOrCrop,  # pyright: ignore[reportPrivateImportUsage]
)
from torch import Tensor
from torch.nn import functional

from medsynth.data.errors import Unreadable, check_choice
from medsynth.data.reading import RawImage
from medsynth.errors import InputError

OUTSIDE = -math.inf  # beyond the border of the raw image; normalization makes it -1, whatever the lowest value is
_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R BT.601
_SQUARE = 0.01  # pixels whose height and width differ by a smaller fraction are taken for square
_MOST_VALUES = 2**27  # of a resampled image; more is a mistake in a spacing
_FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Make images of one size from raw images of any size; the same result for each call.

    The fields with defaults are options of data=; conf/data/base/files.yaml describes them.

    Args:
        size: height and width of the prepared images, in pixels.
        channels: 1 converts color to gray by ITU-R BT.601 luma, 3 repeats gray.

    Raises:
        InputError: an option has an impossible value.
    """

    size: int
    _: dataclasses.KW_ONLY
    channels: int
    spacing: float | Sequence[float] | None = None
    foreground: float | None = None
    crop: int | Sequence[int] | None = None
    resize: str = "crop"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InputError(f"data.channels={self.channels} is not possible: choose 1 or 3.")
        if self.size < 4:
            raise InputError(f"data.image_size={self.size} is too small: 4 pixels or more.")
        check_choice("data.resize", self.resize, RESIZES)
        if self.spacing is not None:
            _pair("data.spacing", self.spacing)
        if self.crop is not None:
            _pair("data.crop", self.crop)

    def key(self) -> dict[str, object]:
        """Return the options that the prepared images depend on."""
        return dataclasses.asdict(self)

    def __call__(self, raw: RawImage) -> tuple[np.ndarray, tuple[float, float] | None]:
        """Prepare one raw image, or a pair.

        Returns:
            Values ``(C, size, size)``, float32 in the raw image's unit, and their spacing in millimeters, None where it
            is not known. Of pairs ``(2 C, size, size)``, source first, and one channel more with a foreground, from
            -1, outside, to 1; it is -inf beyond the border of the raw image.

        Raises:
            Unreadable: the raw image lacks information that an option needs.
        """
        image, spacing = self._stacked(raw), raw.spacing
        if self.spacing is not None:
            if spacing is None:
                raise Unreadable(
                    "it does not give its pixel spacing, which data.spacing needs (null leaves its pixels as they are)"
                )
            target = _pair("data.spacing", self.spacing)
            image, spacing = _resampled(image, (spacing[0] / target[0], spacing[1] / target[1])), target
        elif self.makes_square(raw):
            aspect = raw.pixel_aspect
            image = _resampled(image, (max(aspect, 1.0), max(1 / aspect, 1.0)))
            spacing = None if spacing is None else (min(spacing), min(spacing))
        if self.foreground is not None:
            shown = range(self.channels) if raw.source is None else range(self.channels, 2 * self.channels)
            if not (image[list(shown)] > self.foreground).any():
                raise Unreadable(
                    f"no pixel is above data.foreground={self.foreground:g}, a value in the unit of the data"
                )
            above = partial(torch.lt, torch.tensor(self.foreground))
            image = _plain(CropForeground(select_fn=above, channel_indices=list(shown))(image))
        if self.crop is not None:
            image = _plain(CenterSpatialCrop([int(extent) for extent in _pair("data.crop", self.crop)])(image))
        image, (down, across) = RESIZES[self.resize](image, self.size)
        if spacing is not None:
            spacing = round(spacing[0] / down, 6), round(spacing[1] / across, 6)
        return np.ascontiguousarray(image.numpy()), spacing

    def makes_square(self, raw: RawImage) -> bool:
        """Return whether the pixels of a raw image are not square, and are made so along their coarser axis."""
        return self.spacing is None and abs(math.log(raw.pixel_aspect)) > _SQUARE

    def _stacked(self, raw: RawImage) -> Tensor:
        """Return the channels of all images of a pair, which are transformed alike."""
        images = [self._with_channels(each.values) for each in (raw.source, raw) if each is not None]
        if raw.foreground is not None:
            images.append(torch.from_numpy(np.where(raw.foreground, np.float32(1), np.float32(-1)))[None])
        return torch.cat(images)

    def _with_channels(self, values: np.ndarray) -> Tensor:
        image = torch.from_numpy(values)
        if self.channels == 1 and len(image) == 3:
            image = (image * _LUMA).sum(0, keepdim=True)
        return image.expand(self.channels, -1, -1)


@dataclasses.dataclass(frozen=True)
class RandomViews:
    """Random transforms of prepared images, new ones in each epoch. A view depends on its seed alone.

    The fields with defaults are options of data=; conf/data/base/files.yaml describes them. Flips have probability 1/2.

    Args:
        size: height and width of the views, in pixels: a random part of larger prepared images.

    Raises:
        InputError: an option has an impossible value.
    """

    size: int
    _: dataclasses.KW_ONLY
    random_crop: int | None = None
    flip: str | None = None
    rotate: float = 0

    def __post_init__(self) -> None:
        if self.random_crop is not None and self.random_crop < self.size:
            raise InputError(
                f"data.random_crop={self.random_crop} is smaller than data.image_size={self.size}: choose a larger one."
            )
        if self.flip is not None and self.flip not in _FLIPS:
            raise InputError(f"data.flip={self.flip} is not possible: choose null, {' or '.join(_FLIPS)}.")
        if not 0 <= self.rotate <= 180:
            raise InputError(f"data.rotate={self.rotate} is not possible: choose 0 to 180 degrees.")

    @property
    def active(self) -> bool:
        """True if any random transform is chosen."""
        return bool(self.random_crop or self.flip or self.rotate)

    @property
    def prepared_size(self) -> int:
        """Height and width of the prepared images that views are taken from, in pixels."""
        return self.random_crop or self.size

    @cached_property
    def _transforms(self) -> Compose:
        axes = () if self.flip is None else _FLIPS[self.flip]
        transforms: list[Any] = [RandFlip(prob=0.5, spatial_axis=axis) for axis in axes]
        if self.rotate:
            # The border's values are extended outwards: zeros would be a mid-gray frame.
            transforms.append(RandRotate(range_x=math.radians(self.rotate), prob=1.0, padding_mode="border"))
        return Compose(transforms)

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Draw one view ``(C, size, size)`` of an image ``(C, H, W)``."""
        self._transforms.set_random_state(seed % 2**32)
        image = _plain(self._transforms(image))
        rows, columns = (extent - self.size + 1 for extent in image.shape[-2:])
        top, left = np.random.default_rng(seed).integers((rows, columns))
        return image[:, top : top + self.size, left : left + self.size]


def _plain(image: Any) -> Tensor:
    """Return MONAI's tensors as plain ones: their metadata would leak into the batches."""
    return image.as_tensor() if hasattr(image, "as_tensor") else image


def central(images: Tensor, size: int) -> Tensor:
    """Return the central ``(..., size, size)`` of images ``(..., H, W)``."""
    top, left = ((extent - size) // 2 for extent in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def _crop(image: Tensor, size: int) -> tuple[Tensor, tuple[float, float]]:
    side = min(image.shape[-2:])
    return _interpolate(central(image, side), size, size), (size / side, size / side)


def _fit(image: Tensor, size: int) -> tuple[Tensor, tuple[float, float]]:
    scale = size / max(image.shape[-2:])
    height, width = (max(1, round(extent * scale)) for extent in image.shape[-2:])
    top, left = (size - height) // 2, (size - width) // 2
    margins = (left, size - width - left, top, size - height - top)
    return functional.pad(_interpolate(image, height, width), margins, value=OUTSIDE), (scale, scale)


def _stretch(image: Tensor, size: int) -> tuple[Tensor, tuple[float, float]]:
    height, width = image.shape[-2:]
    return _interpolate(image, size, size), (size / height, size / width)


def _none(image: Tensor, size: int) -> tuple[Tensor, tuple[float, float]]:
    return _plain(ResizeWithPadOrCrop(size, value=OUTSIDE)(image)), (1.0, 1.0)


# (image (C, H, W), size) -> (image (C, size, size), its scale along rows and columns).
RESIZES: dict[str, Callable[[Tensor, int], tuple[Tensor, tuple[float, float]]]] = {
    "crop": _crop,
    "fit": _fit,
    "stretch": _stretch,
    "none": _none,
}


def _resampled(image: Tensor, scales: tuple[float, float]) -> Tensor:
    height, width = (max(1, round(extent * scale)) for extent, scale in zip(image.shape[-2:], scales, strict=True))
    if height * width * len(image) > _MOST_VALUES:
        raise Unreadable(f"its pixel spacing would make it an image of {height} x {width} pixels, which is too large")
    return _interpolate(image, height, width)


def _interpolate(image: Tensor, height: int, width: int) -> Tensor:
    # MONAI's Resize and Spacing either smooth with zeros beyond the border, which darkens the corners of a constant
    # image by 15 %, or alias fine structures.
    if image.shape[-2:] == (height, width):
        return image
    return functional.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


def _pair(option: str, value: float | Sequence[float]) -> tuple[float, float]:
    pair = (value, value) if isinstance(value, int | float) else tuple(value)
    if len(pair) != 2 or not all(isinstance(number, int | float) and number > 0 for number in pair):
        raise InputError(f"{option}={value} is not possible: give one number above 0, or [rows,columns].")
    return pair[0], pair[1]
