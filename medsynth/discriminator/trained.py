"""The base class of discriminators without a frozen part."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from medsynth.contracts import Features, InputError, MinibatchFactory, MinibatchLayer, check_contract


class TrainedDiscriminator(nn.Module, abc.ABC):
    """A discriminator that is trained completely: its features are the images. See ``contracts.Discriminator``.

    With ``packing`` m above 1 its features are packs of m consecutive images of the batch, joined along the channels,
    and a pack has one row of logits (Lin et al. 2018, PacGAN: D(X_1, ..., X_m) of images that are all real or all
    generated; a generator of few modes makes packs of too similar images). Of the network only the channels of the
    first layer change. Losses, penalties and a layer of ``minibatch`` have packs where they have images else: the norm
    of a gradient is that of a whole pack.

    Args:
        packing: images of a pack.
        num_classes: classes of the labels.

    Raises:
        InputError: ``packing`` is less than 1, or labels are asked for, of which a pack has several.
    """

    has_frozen_features = False

    def __init__(self, *, packing: int = 1, num_classes: int = 0):
        super().__init__()
        if packing < 1:
            raise InputError(f"discriminator.packing={packing} must be 1 or more.")
        if packing > 1 and num_classes:
            raise InputError(
                f"discriminator.packing={packing} joins images of several classes, which have no label together: "
                "leave out conditional=true or discriminator.packing."
            )
        self.packing = packing

    @abc.abstractmethod
    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N / packing, K) of packs (N / packing, packing * C, H, W), given as a tuple of one."""

    def features(self, images: Tensor) -> Features:
        """Return the images, or packs of them, as a tuple of one."""
        if self.packing == 1:
            return (images,)
        if len(images) % self.packing:
            raise InputError(
                f"discriminator.packing={self.packing} does not divide the {len(images)} images that are computed at a "
                "time: choose a data.batch_size of which it divides each microbatch."
            )
        return (images.reshape(-1, self.packing * images.shape[1], *images.shape[2:]),)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N / packing, K) of images (N, C, H, W)."""
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all parameters as one group."""
        return [{"params": list(self.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Do nothing: no statistics are needed before the training."""


class LayeredDiscriminator(TrainedDiscriminator):
    """A trained discriminator of ``layers`` on the images, and of a ``logit`` (values, labels) on what leaves them.

    A subclass whose layers are more than one module in a row writes ``activations`` instead of having ``layers``.
    """

    layers: nn.Module
    logit: nn.Module

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, K)."""
        (last,) = self.activations(features)
        return self.logit(last, labels)

    @property
    def classifies(self) -> bool:
        """Return True if the logit has a classifier beside it (``ProjectedLogit``)."""
        return getattr(self.logit, "classes", None) is not None

    def head_with_classes(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return logits (N, K) and the logits of the classes (N, num_classes)."""
        (last,) = self.activations(features)
        classes = cast(nn.Module, self.logit.classes)
        return self.logit(last), classes(last)

    def activations(self, features: Features) -> Features:
        """Return the values (N, ...) that the logits are computed of, as a tuple of one."""
        (images,) = features
        return (self.layers(images),)


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


def dropout_layer(probability: float, *, maps: bool = False) -> nn.Module:
    """Return dropout of features (N, F) (Srivastava et al. 2014), or of whole maps (N, C, H, W) (Tompson et al. 2015).

    At a probability of 0 it is the identity and draws no random numbers.

    Raises:
        InputError: the probability is not from 0 to less than 1.
    """
    if not 0 <= probability < 1:
        raise InputError(f"discriminator.dropout={probability} must be from 0 to less than 1.")
    if probability == 0:
        return nn.Identity()
    return nn.Dropout2d(probability) if maps else nn.Dropout(probability)
