"""The discriminator of StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN")."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from medsynth.contracts import MinibatchFactory, doublings
from medsynth.discriminator.trained import LayeredDiscriminator, dropout_layer, minibatch_layer
from medsynth.layers.equalized import EqualizedConv2d, EqualizedLinear, activated


class StyleDiscriminator(LayeredDiscriminator):
    """Residual blocks down to 4 x 4 pixels, a 3x3 convolution, two dense layers; equalized learning rates.

    As in the paper's configurations D to F: a 1x1 convolution to ``width`` maps; a block for each halving; at 4 x 4
    pixels the standard deviation over a group of images (``minibatch=std``, which the choice ``discriminator=style``
    brings), a 3x3 convolution, a dense layer and the logit; leaky ReLU, no normalization. Labels enter by projection,
    as in StyleGAN2-ADA (Karras et al. 2020), but of the label's embedding, and with an unconditional logit.

    Args:
        image_size: height and width in pixels; 8, 16, 32, ...
        channels: channels of the images.
        width: feature maps at full resolution; doubled with every halving. The paper has 32 at 1,024 pixels.
        max_width: upper bound of the feature maps; 512 in the paper.
        dropout: probability with which each of the dense layer's outputs is left out in training.
        minibatch: makes a layer that compares the images of a batch, on the maps of 4 x 4 pixels; None: there is none.
        packing: images that have one row of logits together (``TrainedDiscriminator``).
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: ``image_size`` is not 4 times a power of two.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        width: int = 32,
        max_width: int = 512,
        dropout: float = 0.0,
        minibatch: MinibatchFactory | None = None,
        packing: int = 1,
        num_classes: int = 0,
    ):
        super().__init__(packing=packing, num_classes=num_classes)
        levels = doublings(image_size, "discriminator=style")
        widths = [min(width * 2**level, max_width) for level in range(levels + 1)]
        compare, maps = minibatch_layer(minibatch, widths[-1], positions=16)
        self.layers = nn.Sequential(
            EqualizedConv2d(packing * channels, widths[0], 1),
            Activation(),
            *(HalvingBlock(before, after) for before, after in itertools.pairwise(widths)),
            compare,
            EqualizedConv2d(maps, widths[-1], 3),
            Activation(),
            nn.Flatten(),
            EqualizedLinear(widths[-1] * 16, widths[-1]),
            Activation(),
            dropout_layer(dropout),
        )
        self.logit = EqualizedLogit(widths[-1], num_classes)


class HalvingBlock(nn.Module):
    """Two 3x3 convolutions, the second after a blur and of stride 2, beside a 1x1 shortcut; their sum by sqrt(2).

    ``(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)``.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.convolution1 = EqualizedConv2d(inputs, inputs, 3)
        self.convolution2 = EqualizedConv2d(inputs, outputs, 3, halve=True)
        self.shortcut = EqualizedConv2d(inputs, outputs, 1, halve=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, outputs, H / 2, W / 2)."""
        branch = activated(self.convolution2(activated(self.convolution1(x))))
        return (branch + self.shortcut(x)) / math.sqrt(2)


class EqualizedLogit(nn.Module):
    """A linear unit, plus the inner product with the label's embedding, both with equalized learning rates.

    ``(N, num_features), (N,) -> (N, 1)``; embeddings start from 0, as those of ``ProjectedLogit``.
    """

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.linear = EqualizedLinear(num_features, 1)
        self.embedding = nn.Embedding(num_classes, num_features) if num_classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1)."""
        logits = self.linear(features)
        if self.embedding is None:
            return logits
        assert labels is not None, "a conditional discriminator needs labels"
        inner = (self.embedding(labels) * features).sum(dim=1, keepdim=True)
        return logits + inner / math.sqrt(features.shape[1])


class Activation(nn.Module):
    """Leaky ReLU with a gain (``layers.equalized.activated``), as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return activated(x)
