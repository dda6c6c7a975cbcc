"""The discriminator of DCGAN (Radford, Metz and Chintala 2016), optionally with spectral normalization."""

from __future__ import annotations

import itertools

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import InputError, MinibatchFactory, doublings
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.trained import LayeredDiscriminator, dropout_layer, minibatch_layer
from medsynth.layers.attention import SelfAttention, check_attention


class DCGANDiscriminator(LayeredDiscriminator):
    """Strided 4x4 convolutions down to 4 x 4 pixels, leaky ReLU, one logit; all layers are trained.

    Args:
        image_size: height and width in pixels; 8, 16, 32, 64, ...
        channels: channels of the images.
        width: feature maps of the first layer; doubled with every halving of the resolution.
        max_width: upper bound of the feature maps.
        normalization: ``batch`` as in the paper (none in the first layer), ``spectral`` (Miyato et al. 2018), ``none``.
        dropout: probability with which each map of 4 x 4 pixels is left out in training.
        minibatch: makes a layer that compares the images of a batch, on the maps of 4 x 4 pixels; None: there is none.
        attention: resolution of the maps that self-attention stands behind (``SelfAttention``); None: there is none.
        packing: images that have one row of logits together (``TrainedDiscriminator``).
        num_classes: classes of the labels; 0 means unconditional.
        classifier: labels are learned by a classifier beside the logit instead of projection (``ProjectedLogit``).

    Raises:
        InputError: an unknown normalization, or an ``image_size`` that is not 4 times a power of two or has no maps
            for ``attention``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        width: int = 64,
        max_width: int = 512,
        normalization: str = "batch",
        dropout: float = 0.0,
        minibatch: MinibatchFactory | None = None,
        attention: int | None = None,
        packing: int = 1,
        num_classes: int = 0,
        classifier: bool = False,
    ):
        super().__init__(packing=packing, num_classes=num_classes)
        if normalization not in ("batch", "spectral", "none"):
            raise InputError(f"discriminator.normalization={normalization} is unknown: choose batch, spectral or none.")
        levels = doublings(image_size, "discriminator=dcgan")
        widths = [packing * channels, *(min(width * 2**level, max_width) for level in range(levels))]
        check_attention(attention, [image_size // 2 ** (level + 1) for level in range(levels)], "discriminator")
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            normalized = normalization == "batch" and level > 0
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not normalized))
            if normalized:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(0.2))
            if attention == image_size // 2 ** (level + 1):
                layers.append(SelfAttention(outputs))
        compare, maps = minibatch_layer(minibatch, widths[-1], positions=16)
        layers += [compare, dropout_layer(dropout, maps=True), nn.Flatten()]
        self.layers = nn.Sequential(*layers)  # (N, maps * 4 * 4)
        self.logit = ProjectedLogit(maps * 16, num_classes, bias=True, classifier=classifier)
        self.apply(_initialize)
        if normalization == "spectral":
            self.apply(_normalize)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _normalize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        spectral_norm(module)
