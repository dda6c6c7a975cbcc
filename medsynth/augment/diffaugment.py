"""DiffAugment, for training with few images (Zhao et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth.augment.options import checked, chosen
from medsynth.contracts import InputError

_POLICIES = ("color", "translation", "cutout")
_LARGEST = {"brightness": 2.0, "saturation": 1.0, "contrast": 1.0, "translation": 1.0, "cutout": 1.0}


class DiffAugment:
    """Random color, translation and cutout of every image that the discriminator sees (Zhao et al. 2020).

    * color: brightness, saturation and contrast, uniformly distributed. Saturation does not change a single channel.
    * translation: whole pixels, uniformly distributed in both directions.
    * cutout: a square is hidden, its center anywhere in the image, so that a part of it may lie outside. A square of
      half the side hides each pixel in at most a quarter of the images.

    They are applied in this order, whatever the order in ``policy``, so that color does not change the filled pixels.
    Nothing is clipped.

    ``fill`` is the value of pixels that translation and cutout leave empty. The paper has 0, mid gray. A value that the
    images' own margin does not have leaks into the generated images as a frame (docs/transfer.md); ``edge`` continues a
    moved image by its outermost pixels, and hides a square by the mean of the image's margin.

    There is no mirroring: the heart is on the left and the liver on the right, in generated anatomy too.

    Args:
        policy: any of color, translation and cutout.
        brightness: largest shift, in units of [-1, 1].
        saturation: each pixel's deviation from the mean of its channels is multiplied by 1 -/+ up to this.
        contrast: each pixel's deviation from the image's mean is multiplied by 1 -/+ up to this.
        translation: largest shift, as a fraction of height and width.
        cutout: side of the square, as a fraction of height and width.
        fill: value in [-1, 1] of pixels from outside the image and of hidden pixels; ``gray`` is 0; ``edge``: each
            image's own.

    Raises:
        InputError: names the option that is unknown or out of range.
    """

    def __init__(
        self,
        *,
        policy: Sequence[str] = _POLICIES,
        brightness: float = 0.5,
        saturation: float = 1.0,
        contrast: float = 0.5,
        translation: float = 0.125,
        cutout: float = 0.5,
        fill: float | str = "gray",
    ):
        self.policy = chosen("diffaugment", policy, _POLICIES)
        self.brightness = _checked("brightness", brightness)
        self.saturation = _checked("saturation", saturation)
        self.contrast = _checked("contrast", contrast)
        self.translation = _checked("translation", translation)
        self.cutout = _checked("cutout", cutout)
        self.fill = _checked_fill(fill)

    def __call__(self, images: Tensor) -> Tensor:
        """Return augmented images (N, C, H, W)."""
        if "color" in self.policy:
            images = self._color(images)
        if "translation" in self.policy:
            images = self._translate(images)
        if "cutout" in self.policy:
            images = self._cut_out(images)
        return images

    def _color(self, images: Tensor) -> Tensor:
        """Change brightness, saturation and contrast, which commute: the latter two keep the image's mean."""
        wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images  # rounded once, at the end
        mean = wide.mean(dim=(1, 2, 3), keepdim=True)
        deviation = wide - mean
        gray = deviation.mean(dim=1, keepdim=True)
        brightness = _uniform(self.brightness, wide)
        saturation = _uniform(self.saturation, wide) + 1
        contrast = _uniform(self.contrast, wide) + 1
        deviation = torch.lerp(gray, deviation, saturation)
        return torch.addcmul(mean + brightness, deviation, contrast).to(images.dtype)

    def _translate(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows = _sources(images, height, int(height * self.translation))[:, :, None]  # (N, H, 1)
        columns = _sources(images, width, int(width * self.translation))[:, None, :]  # (N, 1, W)
        outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)  # (N, H, W)
        source = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        source = source.flatten(1)[:, None].expand(-1, images.shape[1], -1)  # (N, C, H * W)
        moved = images.flatten(2).gather(2, source).view_as(images)
        return moved if self.fill is None else moved.masked_fill(outside[:, None], self.fill)

    def _cut_out(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows = _hidden(images, height, round(height * self.cutout))[:, None, :, None]
        columns = _hidden(images, width, round(width * self.cutout))[:, None, None, :]
        hidden = rows & columns
        if self.fill is None:
            return torch.where(hidden, _margin_mean(images), images)
        return images.masked_fill(hidden, self.fill)


def _margin_mean(images: Tensor) -> Tensor:
    """Return the mean (N, C, 1, 1) of each channel's outermost pixels."""
    # By slices: a list of indices would be a tensor that is copied to a GPU in each step.
    rows = torch.cat([images[:, :, :1], images[:, :, -1:]], dim=2)
    columns = torch.cat([images[:, :, 1:-1, :1], images[:, :, 1:-1, -1:]], dim=3)
    return torch.cat([rows.flatten(2), columns.flatten(2)], dim=2).mean(dim=2)[:, :, None, None]


def _uniform(largest: float, images: Tensor) -> Tensor:
    """Draw (N, 1, 1, 1) numbers in [-largest, largest)."""
    return (torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) * 2 - 1) * largest


def _sources(images: Tensor, size: int, largest: int) -> Tensor:
    """Draw shifts by -largest to largest pixels; return each row's or column's source (N, size), also out of bounds."""
    shift = torch.randint(-largest, largest + 1, (len(images), 1), device=images.device)
    return torch.arange(size, device=images.device) - shift


def _hidden(images: Tensor, size: int, length: int) -> Tensor:
    """Draw a span of ``length``, its middle anywhere from 0 to ``size``; return which positions it covers (N, size)."""
    first = torch.randint(-(length // 2), size - length + length // 2 + 1, (len(images), 1), device=images.device)
    position = torch.arange(size, device=images.device)
    return (position >= first) & (position < first + length)


def _checked_fill(fill: float | str) -> float | None:
    """Return the value of filled pixels; None: each image's own margin."""
    if fill in ("edge", "gray"):
        return None if fill == "edge" else 0.0
    if isinstance(fill, str) or not -1 <= fill <= 1:
        raise InputError(f"augment.diffaugment.fill={fill} must be edge, gray, or a number from -1, the darkest, to 1.")
    return fill


def _checked(name: str, value: float) -> float:
    return checked("diffaugment", name, value, _LARGEST[name])
