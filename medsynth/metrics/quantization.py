"""Images as they look once saved with 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8 in [0, 255] by rounding; what lies outside is clamped."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def quantize(images: Tensor) -> Tensor:
    """Images in [-1, 1] -> the nearest of 256 equally spaced levels in [-1, 1], float32."""
    return to_uint8(images).float() / 127.5 - 1
