"""PatchGAN, the discriminator of pix2pix (Isola et al. 2017), with a logit for each of many overlapping patches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import Features, InputError
from medsynth.discriminator.label import ProjectedMap
from medsynth.discriminator.trained import LayeredDiscriminator, dropout_layer
from medsynth.image_sizes import check_patch
from medsynth.layers.attention import SelfAttention, check_attention

_NORMALIZATIONS = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d, "spectral": None, "none": None}


class PatchDiscriminator(LayeredDiscriminator):
    """4x4 convolutions and leaky ReLU: ``layers`` of stride 2, one of stride 1, one to the map of logits.

    As in the paper's section 6.1.2: weights from N(0, 0.02), no normalization in the first layer. A logit sees
    ``9 * 2**layers - 2`` pixels in height and width: 16, 34, 70 (the paper's choice), 142, 286; there are
    ``(image_size // 2**layers - 2)**2`` of them. Labels enter by projection at each
    position, which the paper does not have.

    Args:
        image_size: height and width in pixels; at least ``3 * 2**layers``.
        channels: channels of the images.
        layers: convolutions of stride 2.
        width: feature maps of the first layer; doubled with every layer, up to 8 times.
        normalization: ``instance``, ``batch`` (as in the paper), ``spectral`` (of every layer) or ``none``.
        dropout: probability with which each map before the logits is left out in training.
        attention: resolution of the maps that self-attention (``SelfAttention``) stands behind,
            those of a layer of stride 2; None: there is none.
        scales: discriminators of the same layers, the first of the images, each further one of images of half the
            size (Wang et al. 2018, pix2pixHD: 3); attention is in the first alone.
        packing: images that have one row of logits together (``TrainedDiscriminator``).
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: an unknown normalization, no layer, too many layers for the size of the images, or no maps for
            ``attention``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        layers: int = 3,
        width: int = 64,
        normalization: str = "instance",
        dropout: float = 0.0,
        attention: int | None = None,
        scales: int = 1,
        packing: int = 1,
        num_classes: int = 0,
    ):
        super().__init__(packing=packing, num_classes=num_classes)
        if scales < 1:
            raise InputError(f"discriminator.scales={scales} must be 1 or more.")
        _check(image_size, layers, normalization)
        self.coarser = None
        if scales > 1:
            self.coarser = PatchDiscriminator(
                image_size=image_size // 2,
                channels=channels,
                layers=layers,
                width=width,
                normalization=normalization,
                dropout=dropout,
                scales=scales - 1,
                packing=packing,
                num_classes=num_classes,
            )
        widths = [width * 2 ** min(level, 3) for level in range(layers + 1)]
        resolutions = [image_size // 2 ** (level + 1) for level in range(layers)]
        check_attention(attention, resolutions, "discriminator")
        behind = None if attention is None else resolutions.index(attention)
        modules = _convolutions(packing * channels, widths, normalization, behind)
        self.layers = nn.Sequential(*modules, dropout_layer(dropout, maps=True))
        self.apply(_initialize)
        if normalization == "spectral":
            self.apply(_normalize)
        spectral = normalization == "spectral"
        self.logit = ProjectedMap(widths[-1], num_classes, kernel_size=4, padding=1, spectral=spectral)

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, K), those of each scale as often as that each has the same weight in a mean over K."""
        pairs = zip(self._scales(), self.activations(features), strict=True)
        logits = [cast(Tensor, scale.logit(maps, labels)) for scale, maps in pairs]
        columns = math.lcm(*(values.shape[1] for values in logits))
        return torch.cat([values.repeat(1, columns // values.shape[1]) for values in logits], dim=1)

    def activations(self, features: Features) -> Features:
        """Return the maps (N, C, H, W) that the logits are computed of, one of each scale."""
        (images,) = features
        own = self.layers(images)
        if self.coarser is None:
            return (own,)
        # As in pix2pixHD's program: means of 3 x 3 pixels at every second one, without the padding.
        return (own, *self.coarser.activations((avg_pool2d(images, 3, 2, 1, count_include_pad=False),)))

    def _scales(self) -> list[PatchDiscriminator]:
        return [self, *(self.coarser._scales() if self.coarser is not None else [])]


def _convolutions(channels: int, widths: Sequence[int], normalization: str, attention: int | None) -> list[nn.Module]:
    """Return the layers before the logits: all of stride 2 but the last.

    Args:
        channels: that enter the first layer.
        widths: feature maps of each layer.
        normalization: between layers.
        attention: number of the layer that self-attention stands behind; None: there is none.
    """
    norm = _NORMALIZATIONS[normalization]
    modules: list[nn.Module] = []
    for level, (inputs, outputs) in enumerate(itertools.pairwise([channels, *widths])):
        normalized = norm is not None and level > 0
        stride = 2 if level < len(widths) - 1 else 1
        modules.append(nn.Conv2d(inputs, outputs, 4, stride, padding=1, bias=not normalized))
        if norm is not None and normalized:
            modules.append(norm(outputs, affine=True))
        modules.append(nn.LeakyReLU(0.2))
        if level == attention:
            modules.append(SelfAttention(outputs))
    return modules


def _check(image_size: int, layers: int, normalization: str) -> None:
    if normalization not in _NORMALIZATIONS:
        raise InputError(
            f"discriminator.normalization={normalization} is unknown: choose instance, batch, spectral or none."
        )
    if layers < 1:
        raise InputError(f"discriminator.layers={layers} must be 1 or more.")
    check_patch(image_size, layers)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


def _normalize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        spectral_norm(module)
