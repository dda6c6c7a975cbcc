"""Rounding of the generator's penalties."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """Return ``values`` in float32 where they have fewer bits, as in mixed precision; else as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
