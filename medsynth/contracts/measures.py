"""The measures of generated against real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

Better = Literal["lower", "higher"]  # which values of a measure are better


@runtime_checkable
class FeatureExtractor(Protocol):
    """The network of a metric: ``images (N, C, H, W) in [-1, 1] -> features (N, num_features)``.

    ``name`` goes into the metrics' keys (``fd_<name>``). An extractor with a classifier also has
    ``logits(features) -> (N, classes)``, which the inception score needs.
    """

    name: str
    num_features: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (N, num_features)."""
        ...


@runtime_checkable
class Metrics(Protocol):
    """``update`` with batches of images in [-1, 1], then ``compute`` once; names come without prefix.

    ``reset`` forgets the generated images; the real ones stay, and ``has_real`` says whether there are any. Not a
    module: ``to`` moves it.
    """

    has_real: bool

    @staticmethod
    def logged_measures(config: Mapping[str, Any]) -> Mapping[str, Better]:
        """Return the values that an object of this configuration computes and that can be an objective.

        Each name has the direction in which its values are better. ``config`` is the plain configuration, ``_target_``
        included; nothing is built or loaded. Empty: not known yet.
        """
        ...

    def to(self, device: torch.device | str) -> Metrics:
        """Move to ``device``."""
        ...

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add a batch of real or generated images."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the values by name."""
        ...

    def reset(self) -> None:
        """Forget the generated images."""
        ...


@runtime_checkable
class ModeReader(Protocol):
    """Data whose modes are known, and equally frequent: reads the mode back from any image."""

    num_modes: int

    def modes(self, images: Tensor) -> Tensor:
        """Return the mode (N,) of each image (N, C, H, W), int64; -1: it is no good image of any mode."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """Metrics that give the features of their images, which the doctor then need not compute again."""

    def features(self) -> tuple[Tensor, Tensor]:
        """Return the features (N, d) of real and of generated images, after ``compute``."""
        ...

    def features_of(self, images: Tensor) -> Tensor:
        """Return the features (N, d) of further images (N, C, H, W) in [-1, 1]."""
        ...

    @property
    def classify(self) -> Callable[[Tensor], Tensor] | None:
        """Return the function from features to the logits (N, classes) of a classifier, or None without one.

        Features may be on another device than the metrics, since the doctor keeps them on the CPU.
        """
        ...
