"""The squared difference of pixels."""

from __future__ import annotations

from torch import Tensor

from medsynth.contracts import InputError
from medsynth.reconstruction.foreground import foreground_mean


class L2:
    """``weight * E[(target - output)^2]``, whose minimum is the mean of what the targets of a source can be.

    Args:
        weight: of the term.
        outside: weight of a pixel outside the mask, where that of one inside is 1. With 0 nothing but a discriminator
            tells the network that the background is empty.

    Raises:
        InputError: ``outside`` is not from 0 to 1.
    """

    def __init__(self, *, weight: float = 100.0, outside: float = 0.1):
        if not 0 <= outside <= 1:
            raise InputError(f"reconstruction.l2.outside={outside:g} must be from 0 to 1.")
        self.weight = weight
        self.outside = outside

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar."""
        return self.weight * foreground_mean((output - target).square(), mask, outside=self.outside)
