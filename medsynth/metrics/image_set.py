"""A set of images that are read by number, from files, memory or a generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from medsynth.contracts import InputError


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images of one side of a comparison.

    Attributes:
        name: their description for people: "reference", "generated", "training".
        count: how many.
        read: numbers from 0 to ``count`` -> images (n, C, H, W) in [-1, 1]. One number always gives the same image.
        labels: int64 (count,); None: there are none.
        key: plain values that the images depend on; None: their features are not cached.
        groups: int64 (count,), equal for images of one patient, in all sets of one source; None: not known.
    """

    name: str
    count: int
    read: Callable[[Sequence[int]], Tensor]
    labels: np.ndarray | None = None
    key: Mapping[str, Any] | None = None
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.count < 2:
            raise InputError(
                f"There are {self.count} {self.name} images, and a comparison needs 2 or more: add images."
            )

    def subset(self, numbers: np.ndarray) -> ImageSet:
        """Return the images of these numbers (n,), in this order."""
        chosen = np.asarray(numbers, dtype=np.int64)

        def read(numbers: Sequence[int]) -> Tensor:
            return self.read(chosen[np.asarray(numbers)].tolist())

        return dataclasses.replace(
            self,
            count=len(chosen),
            read=read,
            labels=None if self.labels is None else self.labels[chosen],
            key=None if self.key is None else {**self.key, "chosen": chosen.tolist()},
            groups=None if self.groups is None else self.groups[chosen],
        )


def spread(count: int, most: int) -> list[int]:
    """Return ``most`` equally spaced numbers below ``count``, or all of them if there are no more."""
    return list(range(count)) if count <= most else [position * count // most for position in range(most)]
