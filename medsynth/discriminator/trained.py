"""What all discriminators without a frozen part share."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medsynth.contracts import Features


class TrainedDiscriminator(nn.Module, abc.ABC):
    """A discriminator of which everything is trained: its head sees the images. See ``contracts.Discriminator``."""

    has_frozen_features = False

    @abc.abstractmethod
    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """The images ``(N, C, H, W)``, as a tuple of one -> logits (N, K)."""

    def features(self, images: Tensor) -> Features:
        return (images,)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Nothing here needs data before the training."""
