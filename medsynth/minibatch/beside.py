"""Concatenation of statistics of a batch to its features."""

from __future__ import annotations

import torch
from torch import Tensor


def beside(features: Tensor, statistics: Tensor) -> Tensor:
    """Append ``statistics`` (N, added) to ``features`` (N, C) or (N, C, H, W): to maps as maps of equal values."""
    maps = statistics.to(features.dtype).view(*statistics.shape, *[1] * (features.dim() - 2))
    return torch.cat([features, maps.expand(-1, -1, *features.shape[2:])], dim=1)
