"""The residual discriminator of SNGAN (Miyato et al. 2018, "Spectral normalization for GANs")."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import Features, MinibatchFactory, doublings
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.trained import LayeredDiscriminator, dropout_layer, minibatch_layer
from medsynth.layers.attention import SelfAttention, check_attention


class SNGANDiscriminator(LayeredDiscriminator):
    """Residual blocks, the sum over all positions, one logit; spectral normalization of every layer.

    Depth: images of 16 or 32 pixels pass two blocks that halve the resolution and two that keep it (paper, table 3, for
    32 pixels); larger ones are halved to 4 x 4 pixels, and one more block follows (table 6, for 128 pixels). Block l
    has ``width * 2**l`` maps, l = 0, 1, ..., and at most ``max_width``: the paper's network for 32 pixels has the same
    128 in all blocks, the one for 128 pixels 64 to 1,024. Labels enter by projection (Miyato and Koyama 2018).

    Args:
        image_size: height and width in pixels; 16, 32, 64, ...
        channels: channels of the images.
        width: feature maps of the first block; doubled with every block.
        max_width: upper bound of the feature maps.
        dropout: probability with which each sum is left out in training.
        minibatch: makes a layer that compares the images of a batch, on the sums; None: there is none.
        attention: resolution of the maps that self-attention (``SelfAttention``) stands behind,
            those of the first block of this resolution; None: there is none.
        packing: images that have one row of logits together (``TrainedDiscriminator``).
        num_classes: classes of the labels; 0 means unconditional.
        classifier: labels are learned by a classifier beside the logit instead of projection (``ProjectedLogit``).

    Raises:
        InputError: ``image_size`` is not a power of two of 16 or more, or has no maps for ``attention``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        width: int = 64,
        max_width: int = 1024,
        dropout: float = 0.0,
        minibatch: MinibatchFactory | None = None,
        attention: int | None = None,
        packing: int = 1,
        num_classes: int = 0,
        classifier: bool = False,
    ):
        super().__init__(packing=packing, num_classes=num_classes)
        to_four = doublings(image_size, "discriminator=sngan", smallest=16)
        halvings, plain = (2, 2) if image_size <= 32 else (to_four, 1)
        widths = [packing * channels, *(min(width * 2**block, max_width) for block in range(halvings + plain))]
        resolutions = [image_size // 2 ** (block + 1) for block in range(halvings)]
        check_attention(attention, resolutions, "discriminator")
        blocks: list[nn.Module] = []
        for block, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            blocks.append(ResidualBlock(inputs, outputs, downsample=block < halvings, first=block == 0))
            if attention in resolutions[block : block + 1]:
                blocks.append(SelfAttention(outputs))
        self.blocks = nn.Sequential(*blocks)
        self.blocks.apply(_normalize)
        self.compare, maps = minibatch_layer(minibatch, widths[-1], positions=1)
        self.dropout = dropout_layer(dropout)
        self.logit = ProjectedLogit(maps, num_classes, bias=True, spectral=True, classifier=classifier)

    def activations(self, features: Features) -> Features:
        """Return what the logit is computed of (N, maps)."""
        (images,) = features
        maps = torch.relu(self.blocks(images))
        return (self.dropout(self.compare(maps.sum(dim=(2, 3)))),)


class ResidualBlock(nn.Module):
    """ReLU and 3x3 convolution, twice, beside a shortcut: ``(N, inputs, H, W) -> (N, outputs, H or H/2, W or W/2)``.

    Args:
        inputs: number of input maps.
        outputs: number of output maps.
        downsample: halve the resolution, by the mean of 2 x 2 pixels.
        first: the inputs are images, which must not pass a ReLU.
    """

    def __init__(self, inputs: int, outputs: int, *, downsample: bool, first: bool = False):
        super().__init__()
        self.downsample = downsample
        self.activation = nn.Identity() if first else nn.ReLU()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        projects = downsample or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, outputs, H, W) or (N, outputs, H / 2, W / 2)."""
        branch = self.convolution2(torch.relu(self.convolution1(self.activation(x))))
        if self.downsample:
            # A 1x1 convolution and a mean commute; the mean first costs a quarter.
            branch, x = avg_pool2d(branch, 2), avg_pool2d(x, 2)
        return branch + self.shortcut(x)


def _normalize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        spectral_norm(module)
