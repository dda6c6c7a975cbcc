"""The discriminator of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN! A modern baseline GAN")."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from medsynth.contracts import Features, InputError, MinibatchFactory, doublings
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.trained import LayeredDiscriminator, dropout_layer, minibatch_layer
from medsynth.layers.attention import SelfAttention, check_attention

_SLOPE = 0.2
_EXPANSION = 2


class R3GANDiscriminator(LayeredDiscriminator):
    """Residual stages without any normalization, halved to 4 x 4 pixels, and a head with a learned basis.

    As in the paper's final configuration: grouped bottleneck blocks that expand to twice the maps, 16 maps in a
    group, two blocks in a stage; leaky ReLU; initialization as in Fixup (Zhang et al. 2019), the last convolution of a
    block from zero; bilinear halving of the resolution, which for a factor of two is the mean of 2 x 2 pixels, then a
    1x1 convolution where the number of maps changes; a 4x4 depthwise convolution that takes 4 x 4 pixels to one, and a
    linear unit; the inner product with the label's embedding. Unlike in the paper, for small images and machines, there
    are far fewer maps, which double with every halving; and an unconditional logit is added to the inner product.

    Args:
        image_size: height and width in pixels; 8, 16, 32, 64, ...
        channels: channels of the images.
        width: feature maps at full resolution; doubled with every halving.
        max_width: upper bound of the feature maps.
        blocks: residual blocks of each stage, one stage for each resolution.
        group_width: maps in a group of the 3x3 convolutions; it divides twice the maps of every stage.
        dropout: probability with which each number behind the basis is left out in training.
        minibatch: makes a layer that compares the images of a batch, behind the basis; None, as in the paper: none.
        attention: resolution of the maps that self-attention (``SelfAttention``) stands behind,
            those of a stage's last block; None: there is none.
        packing: images that have one row of logits together (``TrainedDiscriminator``).
        num_classes: classes of the labels; 0 means unconditional.
        classifier: labels are learned by a classifier beside the logit instead of projection (``ProjectedLogit``).

    Raises:
        InputError: ``image_size`` is not 4 times a power of two or has no maps for ``attention``, no block, or groups
            of unequal size.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        width: int = 64,
        max_width: int = 768,
        blocks: int = 2,
        group_width: int = 16,
        dropout: float = 0.0,
        minibatch: MinibatchFactory | None = None,
        attention: int | None = None,
        packing: int = 1,
        num_classes: int = 0,
        classifier: bool = False,
    ):
        super().__init__(packing=packing, num_classes=num_classes)
        stages = doublings(image_size, "discriminator=r3gan") + 1  # the last at 4 x 4 pixels
        widths = [min(width * 2**stage, max_width) for stage in range(stages)]
        _check(widths, blocks, group_width)
        check_attention(attention, [image_size // 2**stage for stage in range(stages)], "discriminator")
        # Fixup: m convolutions in each of L branches start smaller by L ** (-1 / (2 m - 2)); here m = 3.
        scale = (stages * blocks) ** -0.25
        layers: list[nn.Module] = [_convolution(packing * channels, widths[0], 1)]
        for stage, maps in enumerate(widths):
            layers += [GroupedBottleneck(maps, group_width, scale=scale) for _ in range(blocks)]
            if attention == image_size // 2**stage:
                layers.append(SelfAttention(maps))
            if stage < stages - 1:
                layers.append(nn.AvgPool2d(2))
                if widths[stage + 1] != maps:
                    layers.append(_convolution(maps, widths[stage + 1], 1))
        basis = _convolution(widths[-1], widths[-1], 4, groups=widths[-1])
        self.layers = nn.Sequential(*layers, basis, nn.Flatten())  # (N, widths[-1])
        self.compare, maps = minibatch_layer(minibatch, widths[-1], positions=1)
        self.dropout = dropout_layer(dropout)
        self.logit = ProjectedLogit(maps, num_classes, bias=False, classifier=classifier)
        nn.init.normal_(self.logit.linear.weight, 0.0, maps**-0.5)

    def activations(self, features: Features) -> Features:
        """Return what the logit is computed of (N, maps)."""
        (images,) = features
        return (self.dropout(self.compare(self.layers(images))),)


class GroupedBottleneck(nn.Module):
    """1x1 convolution to twice the maps, grouped 3x3, 1x1 back, leaky ReLU between: ``(N, maps, H, W)`` -> the same.

    Args:
        maps: number of input and output maps.
        group_width: maps in a group of the 3x3 convolution.
        scale: of the initial weights of the first two convolutions; the third starts from zero, so that the block
            starts as the identity.
    """

    def __init__(self, maps: int, group_width: int, *, scale: float):
        super().__init__()
        inner = _EXPANSION * maps
        gain = scale * nn.init.calculate_gain("leaky_relu", _SLOPE)
        self.expand = _convolution(maps, inner, 1, gain=gain, bias=True)
        self.grouped = _convolution(inner, inner, 3, padding=1, groups=inner // group_width, gain=gain, bias=True)
        self.reduce = _convolution(inner, maps, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, maps, H, W)."""
        branch = leaky_relu(self.expand(x), _SLOPE)
        branch = leaky_relu(self.grouped(branch), _SLOPE)
        return x + self.reduce(branch)


def _convolution(
    inputs: int,
    outputs: int,
    kernel_size: int,
    *,
    padding: int = 0,
    groups: int = 1,
    gain: float = 1.0,
    bias: bool = False,
) -> nn.Conv2d:
    """Create a convolution with weights from N(0, gain^2 / inputs of one output) and biases of zero."""
    layer = nn.Conv2d(inputs, outputs, kernel_size, padding=padding, groups=groups, bias=bias)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(inputs // groups * kernel_size**2))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _check(widths: list[int], blocks: int, group_width: int) -> None:
    if blocks < 1:
        raise InputError(f"discriminator.blocks={blocks} must be 1 or more.")
    for maps in widths:
        if group_width < 1 or _EXPANSION * maps % group_width:
            raise InputError(
                f"discriminator.group_width={group_width} does not divide {_EXPANSION * maps}, twice the maps of a "
                f"stage: choose one that divides twice discriminator.width and twice discriminator.max_width."
            )
