"""Resampling by StyleGAN2's filter [1, 3, 3, 1] (Karras et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d


def blurred(maps: Tensor, *, margin: int, gain: float = 1.0) -> Tensor:
    """Return maps (N, C, H + 2 margin - 3, ...) filtered by [1, 3, 3, 1] / 8 in both directions.

    Args:
        maps: (N, C, H, W).
        margin: zeros around them.
        gain: factor of the result.
    """
    channels = maps.shape[1]
    return conv2d(maps, _filter(maps, gain).expand(channels, 1, 4, 4), padding=margin, groups=channels)


def doubled(maps: Tensor) -> Tensor:
    """Return maps (N, C, 2 H, 2 W): zeros between all pixels, and the filter with a gain of 4.

    In the interior that is bilinear interpolation; beyond the border there are zeros. It is computed in the maps' own
    precision, also in mixed precision: images pass it several times.
    """
    channels = maps.shape[1]
    kernel = _filter(maps, 4.0).expand(channels, 1, 4, 4)
    with torch.autocast(maps.device.type, enabled=False):
        return conv_transpose2d(maps, kernel, stride=2, padding=1, groups=channels)


def _filter(maps: Tensor, gain: float) -> Tensor:
    place = torch.arange(4, dtype=maps.dtype, device=maps.device)
    taps = (1 + place * (3 - place)) / 8  # 1, 3, 3, 1 eighths, computed where the maps are: a copy would have to wait
    return gain * taps[:, None] * taps
