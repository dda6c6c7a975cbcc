"""The absolute difference of pixels, the reconstruction term of pix2pix (Isola et al. 2017)."""

from __future__ import annotations

from torch import Tensor

from medsynth.reconstruction.foreground import foreground_mean


class L1:
    """``weight * E[|target - output|]``, equation 3 of the paper: its minimum is the median of what targets can be.

    Args:
        weight: of the term.
    """

    def __init__(self, *, weight: float = 100.0):
        self.weight = weight

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar."""
        return self.weight * foreground_mean((output - target).abs(), mask)
