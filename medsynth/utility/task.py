"""The contract of a task: what is trained on images, and how it is measured."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from medsynth.metrics.image_set import ImageSet


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images as a task's network takes them, and their targets.

    Attributes:
        inputs: (N, ...), what ``Task.encode`` returned.
        targets: (N, ...), such as labels; None: they are not known, and a task that can label does so.
    """

    inputs: np.ndarray
    targets: np.ndarray | None

    def __len__(self) -> int:
        return len(self.inputs)


class Task(Protocol):
    """A network, its loss and its measures; it is sent to other processes.

    Attributes:
        name: ``classification``, ``keypoints`` or ``segmentation``.
    """

    name: str

    def encode(self, images: ImageSet, *, augmented: bool) -> np.ndarray:
        """Return all images as inputs (N, ...); ``augmented`` ones serve the arm with augmentation, too."""
        ...

    def start(self, examples: list[Examples], *, seed: int) -> nn.Module:
        """Return an untrained network for these training examples."""
        ...

    def batch(self, examples: Examples, positions: np.ndarray, *, augmented: bool) -> tuple[Tensor, np.ndarray]:
        """Return the inputs and targets of some of the examples, of random views of them if ``augmented``."""
        ...

    def loss(self, network: nn.Module, inputs: Tensor, targets: np.ndarray) -> Tensor:
        """Return the mean loss, a scalar."""
        ...

    def predict(self, network: nn.Module, inputs: np.ndarray) -> Tensor:
        """Return predictions (N, ...), on the CPU."""
        ...

    def labeled(self, predictions: Tensor) -> np.ndarray:
        """Return predictions as targets (N, ...)."""
        ...

    def scores(self, predictions: Tensor, targets: np.ndarray) -> Tensor:
        """Return what measures are computed of, for each image (N, ...): computed once for all parts of the images."""
        ...

    def measures(self, scores: Tensor, targets: np.ndarray) -> dict[str, float]:
        """Return all measures by name, of all images or of a part of them."""
        ...

    def is_error(self, measure: str) -> bool:
        """Return whether lower values of a measure are better."""
        ...

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of all measures that may decide."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return plain values that the results depend on."""
        ...
