"""The squared difference of pixels."""

from __future__ import annotations

from torch import Tensor

from medsynth.reconstruction.foreground import foreground_mean


class L2:
    """``weight * E[(target - output)^2]``, whose minimum is the mean of what the targets of a source can be.

    Args:
        weight: of the term.
    """

    def __init__(self, *, weight: float = 100.0):
        self.weight = weight

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar."""
        return self.weight * foreground_mean((output - target).square(), mask)
