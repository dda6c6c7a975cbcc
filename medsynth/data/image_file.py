"""One image file: what is stored in it, and the way from there to a tensor in [-1, 1]."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirst, EnsureType, LoadImage, ScaleIntensityRange, Transform
from PIL import Image
from torch import Tensor
from torch.nn import functional

from medsynth.contracts import InputError

FULL_RANGE = {"8-bit": (0.0, 255.0), "16-bit": (0.0, 65535.0)}  # of the types whose range means something
_STORED_TYPES = {"u1": "8-bit", "u2": "16-bit", "i4": "32-bit integer", "f4": "floating-point"}
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a file holds, before anything is converted; ``low`` and ``high`` are the extremes as they are read."""

    width: int
    height: int
    stored_type: str
    color: bool
    alpha: bool
    pages: int
    low: float
    high: float


def inspect(path: Path, channels: int) -> Facts:
    """Decode the whole file, so that a truncated one is found here and not in the middle of a training.

    Raises:
        InputError: it has 16 bits per color channel; Pillow would silently hand over the upper 8 of them.
        Exception: whatever Pillow raises for a file that is damaged or no image, and ValueError for NaN.
    """
    with Image.open(path) as image:
        color = image.mode not in _GRAY_MODES
        many_bands = color or image.mode in ("LA", "La")
        if many_bands and any(";16" in str(tile.args) for tile in image.tile):
            raise InputError(
                f"{path} has several channels of 16 bits, of which only 8 could be read: "
                f"save it as 16-bit gray or as 8-bit color."
            )
        alpha, pages = image.has_transparency_data, getattr(image, "n_frames", 1)
        values = np.asarray(_gray_or_rgb(image, channels))
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds values that are not finite numbers")
    stored_type = _STORED_TYPES[values.dtype.str[1:]]
    return Facts(image.width, image.height, stored_type, color, alpha, pages, low, high)


def reader(image_size: int, *, channels: int, resize: str, low: float, high: float) -> Compose:
    """The deterministic transform from a path to a float32 tensor ``(channels, image_size, image_size)``.

    ``low`` and ``high`` in stored values become -1 and 1; what lies beyond is clipped. ``resize`` is a key of RESIZES.
    """
    # Without reverse_indexing=False images come out transposed. Read as float64, since float32 files would be handed
    # on without a copy, in memory that is not writable, of which PyTorch warns. The last step makes a plain tensor of
    # MONAI's, whose metadata would leak into the batches.
    converter = partial(_detached, channels=channels)
    return Compose(
        [
            LoadImage(reader="PILReader", dtype=np.float64, reverse_indexing=False, converter=converter),
            EnsureChannelFirst(),
            _Square(image_size, channels=channels, resize=resize, background=low),
            ScaleIntensityRange(low, high, -1.0, 1.0, clip=True),
            EnsureType(track_meta=False),
        ]
    )


def _detached(image: Image.Image, channels: int) -> Image.Image:
    """A copy, with the file closed: Pillow keeps a file of several pages open, and MONAI never closes any."""
    with image:
        return _gray_or_rgb(image, channels).copy()


def _gray_or_rgb(image: Image.Image, channels: int) -> Image.Image:
    """Gray in its own bit depth, or 8-bit RGB where ``channels`` is 3; color becomes ITU-R 601 luma where it is 1.

    Alpha is dropped, not blended: what is under it is measured, the background would be invented.
    """
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in _GRAY_MODES:
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # first, as Pillow warns when it drops a palette's transparency
    image = image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def _crop(image: Tensor, size: int, background: float) -> Tensor:
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _interpolate(image[:, top : top + side, left : left + side], size, size)


def _fit(image: Tensor, size: int, background: float) -> Tensor:
    scale = size / max(image.shape[-2:])
    height, width = (max(1, round(extent * scale)) for extent in image.shape[-2:])
    top, left = (size - height) // 2, (size - width) // 2
    margins = (left, size - width - left, top, size - height - top)
    return functional.pad(_interpolate(image, height, width), margins, value=background)


def _stretch(image: Tensor, size: int, background: float) -> Tensor:
    return _interpolate(image, size, size)


RESIZES: dict[str, Callable[[Tensor, int, float], Tensor]] = {"crop": _crop, "fit": _fit, "stretch": _stretch}


def _interpolate(image: Tensor, height: int, width: int) -> Tensor:
    # Not MONAI's Resize: its anti_aliasing smooths with zeros beyond the border and so darkens the rim (15 % in the
    # corners of a constant image), and without it fine structures alias.
    if image.shape[-2:] == (height, width):
        return image
    return functional.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


class _Square(Transform):
    """``(1 or channels, H, W)`` in stored values -> ``(channels, size, size)``; a MONAI transform to be cached."""

    def __init__(self, size: int, *, channels: int, resize: str, background: float) -> None:
        self.size = size
        self.channels = channels
        self.resize = RESIZES[resize]
        self.background = background

    def __call__(self, image: MetaTensor) -> Tensor:
        square = self.resize(image.as_tensor().float(), self.size, self.background)
        return square.expand(self.channels, -1, -1).contiguous()
