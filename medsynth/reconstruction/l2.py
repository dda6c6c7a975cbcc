"""The squared difference of pixels."""

from __future__ import annotations

from torch import Tensor

from medsynth.reconstruction.pixels import PixelTerm


class L2(PixelTerm):
    """``weight * E[(target - output)^2]``, whose minimum is the mean of what the targets of a source can be."""

    name = "l2"

    def difference(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the squared difference (N, C, H, W) of each pixel."""
        return (output - target).square()
