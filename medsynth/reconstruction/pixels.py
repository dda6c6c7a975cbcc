"""Reconstruction terms that are differences of pixels, weighted by the foreground."""

from __future__ import annotations

import abc
from typing import ClassVar

from torch import Tensor

from medsynth.contracts import InputError
from medsynth.reconstruction.foreground import foreground_mean


class PixelTerm(abc.ABC):
    """``weight`` times the mean of a difference of pixels.

    Args:
        weight: of the term.
        outside: weight of a pixel outside the mask, where that of one inside is 1. With 0 nothing but a discriminator
            tells the network that the background is empty.

    Raises:
        InputError: ``outside`` is not from 0 to 1.
    """

    name: ClassVar[str]  # of the choice ``reconstruction=``

    def __init__(self, *, weight: float = 100.0, outside: float = 0.1):
        if not 0 <= outside <= 1:
            raise InputError(f"reconstruction.{self.name}.outside={outside:g} must be from 0 to 1.")
        self.weight = weight
        self.outside = outside

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar."""
        return self.weight * foreground_mean(self.difference(output, target), mask, outside=self.outside)

    @abc.abstractmethod
    def difference(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the difference (N, C, H, W) of each pixel."""
