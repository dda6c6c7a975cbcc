"""The absolute difference of pixels, the reconstruction term of pix2pix (Isola et al. 2017)."""

from __future__ import annotations

from torch import Tensor

from medsynth.reconstruction.pixels import PixelTerm


class L1(PixelTerm):
    """``weight * E[|target - output|]``, equation 3 of the paper: its minimum is the median of what targets can be."""

    name = "l1"

    def difference(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the absolute difference (N, C, H, W) of each pixel."""
        return (output - target).abs()
