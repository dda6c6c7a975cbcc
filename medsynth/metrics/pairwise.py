"""One pass over all pairs of two sets of features, shared by all measures of pairs.

Products of features are the costly part; all is computed in float64 by blocks, so that memory grows with N and not
with N squared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1024  # rows and columns at a time


class Block:
    """All pairs of the rows ``rows`` of one set with the rows ``columns`` of the same or of another.

    Observers read its matrices (r, c) and leave them as they are.
    """

    def __init__(self, x: _Rows, y: _Rows, *, same: bool) -> None:
        self.rows, self.columns, self.same = x.rows, y.rows, same
        self._x, self._y = x, y

    @property
    def diagonal(self) -> bool:
        """Tell whether its diagonal holds the pairs of images with themselves."""
        return self.same and self.rows == self.columns

    @cached_property
    def _centered_products(self) -> Tensor:
        return self._x.centered @ self._y.centered.T

    @cached_property
    def products(self) -> Tensor:
        """x.y of the features."""
        return (self._centered_products + self._x.shift[:, None]).add_(self._y.shift)

    @cached_property
    def squared_distances(self) -> Tensor:
        """|x - y|^2; infinite on the diagonal, as no image is its own neighbor."""
        squared = torch.add(self._x.squares[:, None], self._centered_products, alpha=-2).add_(self._y.squares)
        squared.clamp_(min=0)
        return squared.fill_diagonal_(torch.inf) if self.diagonal else squared


class Observer(Protocol):
    """A computation on pairs that is shown every block once."""

    def within(self, side: int, block: Block) -> None:
        """Take in pairs of one side (0: real, 1: fake); each pair of blocks is shown once, for both orders."""

    def between(self, block: Block) -> None:
        """Take in pairs of real (rows) and fake images (columns), after all pairs within the sides."""


def observe_pairs(real: np.ndarray, fake: np.ndarray, observers: Sequence[Observer]) -> None:
    """Show all pairs of the features (N, d) and (M, d) to ``observers``."""
    center = _mean(real)
    for side, features in enumerate((real, fake)):
        for x in _parts(features, center):
            for y in _parts(features, center, start=x.rows.start):
                block = Block(x, y, same=True)
                for observer in observers:
                    observer.within(side, block)
    for x in _parts(real, center):
        for y in _parts(fake, center):
            block = Block(x, y, same=False)
            for observer in observers:
                observer.between(block)


def squared_distances(features: np.ndarray) -> Tensor:
    """Return the squared distances of all rows (N, d): (N, N), infinite on the diagonal."""
    rows = _Rows(slice(0, len(features)), features, _mean(features))
    return Block(rows, rows, same=True).squared_distances


class _Rows:
    """Rows of a set minus the center: distances lose fewer digits near the origin."""

    def __init__(self, rows: slice, features: np.ndarray, center: Tensor) -> None:
        self.rows = rows
        self.centered = torch.as_tensor(np.array(features[rows], dtype=np.float64)) - center
        self.squares = self.centered.square().sum(1)
        self.shift = self.centered @ center + center @ center / 2  # what centering took from the products


def _parts(features: np.ndarray, center: Tensor, start: int = 0) -> Iterator[_Rows]:
    for first in range(start, len(features), _BLOCK):
        yield _Rows(slice(first, min(first + _BLOCK, len(features))), features, center)


def _mean(features: np.ndarray) -> Tensor:
    return torch.as_tensor(np.add.reduce(features, axis=0, dtype=np.float64) / len(features))
