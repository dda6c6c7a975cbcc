"""Rounding of images to 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [-1, 1] to uint8 in [0, 255]; values outside are clamped."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def quantize(images: Tensor) -> Tensor:
    """Round images in [-1, 1] to 256 equally spaced levels in [-1, 1], float32."""
    return to_uint8(images).float() / 127.5 - 1
