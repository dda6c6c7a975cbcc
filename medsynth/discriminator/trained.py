"""The base class of discriminators without a frozen part."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medsynth.contracts import Features, MinibatchFactory, MinibatchLayer, check_contract


class TrainedDiscriminator(nn.Module, abc.ABC):
    """A discriminator that is trained completely: its features are the images. See ``contracts.Discriminator``."""

    has_frozen_features = False

    @abc.abstractmethod
    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, K) of the images (N, C, H, W), given as a tuple of one."""

    def features(self, images: Tensor) -> Features:
        """Return the images, as a tuple of one."""
        return (images,)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W)."""
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all parameters as one group."""
        return [{"params": list(self.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Do nothing: no statistics are needed before the training."""


def minibatch_layer(minibatch: MinibatchFactory | None, channels: int, *, positions: int) -> tuple[nn.Module, int]:
    """Return the layer that compares the images of a batch, and the channels that leave it.

    Args:
        minibatch: makes the layer; None or an empty mapping (``minibatch=none``): the identity.
        channels: that enter it.
        positions: of the maps that enter it, H times W; 1 for features (N, channels).
    """
    if not minibatch:
        return nn.Identity(), channels
    layer = minibatch(channels, positions)
    check_contract(layer, MinibatchLayer, "minibatch")
    assert isinstance(layer, nn.Module)
    return layer, channels + layer.added
