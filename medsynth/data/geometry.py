"""From a picture of any size to a square of the size that is learned, and the random views of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from monai.transforms import CenterSpatialCrop, Compose, CropForeground, RandFlip, RandRotate, ResizeWithPadOrCrop
from torch import Tensor
from torch.nn import functional

from medsynth.contracts import InputError
from medsynth.data.reading import Picture, Unreadable

OUTSIDE = -math.inf  # beyond a picture's border; normalization makes it -1, whatever the lowest value is
_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R BT.601
_FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}


class Geometry:
    """``Picture -> (values (C, size, size) float32 in the picture's unit, spacing)``, the same for each call.

    Args:
        size: height and width of what comes out, in pixels.
        channels: 1 turns color to gray by ITU-R BT.601 luma, 3 repeats gray.
        spacing: millimetres to resample rows and columns to, one number or two; None: as they are.
        foreground: value above which a pixel belongs to the patient; what lies around is cut off. None: nothing is.
        crop: height and width of the central part that is kept, in pixels, before resizing; None: all.
        resize: ``crop`` scales the central square, ``fit`` the whole image and fills up, ``stretch`` both sides by
            themselves; ``none`` scales nothing and cuts or fills up.

    Raises:
        InputError: an option has no such value.
    """

    def __init__(
        self,
        size: int,
        *,
        channels: int,
        spacing: float | Sequence[float] | None = None,
        foreground: float | None = None,
        crop: int | Sequence[int] | None = None,
        resize: str = "crop",
    ) -> None:
        if channels not in (1, 3):
            raise InputError(f"data.channels={channels} is not possible: 1 or 3.")
        if size < 4:
            raise InputError(f"data.image_size={size} is too small: 4 pixels or more.")
        if resize not in RESIZES:
            raise InputError(f"data.resize={resize} is not possible: {', '.join(RESIZES)}.")
        self.size = size
        self.channels = channels
        self.spacing = None if spacing is None else _pair("data.spacing", spacing)
        self.foreground = foreground
        self.crop = None if crop is None else _pair("data.crop", crop)
        self.resize = resize

    def key(self) -> dict[str, object]:
        """What the prepared images depend on."""
        return dict(vars(self))

    def __call__(self, picture: Picture, images_per_picture: int = 1) -> tuple[np.ndarray, tuple[float, float] | None]:
        """Apply it. The spacing comes out in millimetres, or as None where it was not known.

        Raises:
            Unreadable: the picture lacks what an option needs.
        """
        image, spacing = self._colored(torch.from_numpy(picture.values), images_per_picture), picture.spacing
        if self.spacing is not None:
            if spacing is None:
                raise Unreadable("it does not say its pixel spacing, which data.spacing needs")
            height, width = (
                max(1, round(extent * now / wanted))
                for extent, now, wanted in zip(image.shape[-2:], spacing, self.spacing, strict=True)
            )
            image, spacing = _interpolate(image, height, width), self.spacing
        if self.foreground is not None:
            if not (image > self.foreground).any():
                raise Unreadable(f"no pixel is above data.foreground={self.foreground:g}")
            image = CropForeground(select_fn=partial(torch.lt, torch.tensor(self.foreground)))(image).as_tensor()
        if self.crop is not None:
            image = CenterSpatialCrop([int(extent) for extent in self.crop])(image).as_tensor()
        before = image
        image, scale = RESIZES[self.resize](before, self.size)
        spacing = spacing and tuple(round(now / by, 6) for now, by in zip(spacing, scale, strict=True))
        return np.ascontiguousarray(image.numpy()), spacing

    def _colored(self, image: Tensor, count: int) -> Tensor:
        parts = image.chunk(count)
        if self.channels == 1:
            parts = [(part * _LUMA).sum(0, keepdim=True) if len(part) == 3 else part for part in parts]
        return torch.cat([part.expand(self.channels, -1, -1) for part in parts])


class RandomViews:
    """Random transforms of prepared images, drawn anew in each epoch: what a sample gets depends on its seed alone.

    Args:
        size: height and width of what comes out; a random part of it where prepared images are larger.
        flip: None, ``horizontal``, ``vertical`` or ``both``, each with probability 1/2. Off unless asked for:
            anatomy is lateralized, a mirrored thorax has its heart on the wrong side.
        rotate: largest angle in degrees, to both sides.

    Raises:
        InputError: an option has no such value.
    """

    def __init__(self, size: int, *, flip: str | None, rotate: float) -> None:
        if flip is not None and flip not in _FLIPS:
            raise InputError(f"data.flip={flip} is not possible: null, {', '.join(_FLIPS)}.")
        if not 0 <= rotate <= 180:
            raise InputError(f"data.rotate={rotate} is not possible: degrees between 0 and 180.")
        transforms = [RandFlip(prob=0.5, spatial_axis=axis) for axis in _FLIPS.get(flip, ())]
        if rotate:
            # The border's values are carried on: zeros would be a mid-gray frame.
            transforms.append(RandRotate(range_x=math.radians(rotate), prob=1.0, padding_mode="border"))
        self.size = size
        self._transforms = Compose(transforms)

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """One view ``(C, size, size)`` of an image ``(C, H, W)``."""
        self._transforms.set_random_state(seed % 2**32)
        image = self._transforms(image)
        if hasattr(image, "as_tensor"):
            image = image.as_tensor()  # MONAI's own, whose metadata would leak into the batches
        rows, columns = (extent - self.size + 1 for extent in image.shape[-2:])
        top, left = np.random.default_rng(seed).integers((rows, columns))
        return image[:, top : top + self.size, left : left + self.size]


def central(images: Tensor, size: int) -> Tensor:
    """The central ``(..., size, size)`` of images ``(..., H, W)``."""
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
    return ResizeWithPadOrCrop(size, value=OUTSIDE)(image).as_tensor(), (1.0, 1.0)


RESIZES: dict[str, Callable[[Tensor, int], tuple[Tensor, tuple[float, float]]]] = {
    "crop": _crop,
    "fit": _fit,
    "stretch": _stretch,
    "none": _none,
}


def _interpolate(image: Tensor, height: int, width: int) -> Tensor:
    # Not MONAI's Resize or Spacing: their anti_aliasing smooths with zeros beyond the border and so darkens the rim
    # (15 % in the corners of a constant image), and without it fine structures alias.
    if image.shape[-2:] == (height, width):
        return image
    return functional.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


def _pair(option: str, value: float | Sequence[float]) -> tuple[float, float]:
    pair = (value, value) if isinstance(value, (int, float)) else tuple(value)
    if len(pair) != 2 or not all(isinstance(number, (int, float)) and number > 0 for number in pair):
        raise InputError(f"{option}={value} is not possible: one number above 0, or [rows,columns].")
    return pair
