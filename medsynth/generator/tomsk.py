"""The generator of the reference system (Tomsk, 2020), with three parallel upsampling branches in each level."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from medsynth.generator.label import LabeledNoise
from medsynth.image_sizes import tomsk_levels


class ParallelUpsampling(nn.Module):
    """One upsampling level of the paper's table: ``(N, in, H, W) -> (N, 3 * filters, 2H, 2W)``.

    Three branches, all fed by the level's input: 3x3 convolution, then nearest upsampling; 1x1 convolution, then 3x3
    transposed convolution; 1x1 convolution, then 1x1 transposed convolution (it fills one pixel in four). Batch
    normalization and ReLU follow the concatenation; the paper does not give their place.
    """

    def __init__(self, in_channels: int, filters: int):
        super().__init__()
        self.convolved = nn.Sequential(
            nn.Conv2d(in_channels, filters, 3, padding=1, bias=False), nn.Upsample(scale_factor=2)
        )
        self.transposed3 = nn.Sequential(
            nn.Conv2d(in_channels, 2 * filters, 1, bias=False),
            nn.ConvTranspose2d(2 * filters, filters, 3, stride=2, padding=1, output_padding=1, bias=False),
        )
        self.transposed1 = nn.Sequential(
            nn.Conv2d(in_channels, 2 * filters, 1, bias=False),
            PointwiseTransposed(2 * filters, filters, 1, stride=2, output_padding=1, bias=False),
        )
        self.norm = nn.BatchNorm2d(3 * filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, 3 * filters, 2H, 2W)."""
        x = torch.cat([self.convolved(x), self.transposed3(x), self.transposed1(x)], dim=1)
        return torch.relu(self.norm(x))


class PointwiseTransposed(nn.ConvTranspose2d):
    """A 1x1 transposed convolution of stride 2, computed as a 1x1 convolution that is spread to every other pixel.

    PyTorch's own backward pass writes out of bounds on CPUs in bfloat16 and channels-last format (version 2.15, with 8
    to 16 channels at 64 x 64 pixels), and this is faster.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return maps (N, out, 2H, 2W); ``output_size`` must be None."""
        dense = conv2d(input, self.weight.transpose(0, 1))  # (N, out, H, W)
        size = (*dense.shape[:2], 2 * dense.shape[2], 2 * dense.shape[3])
        spread = dense.new_zeros(size)
        spread[..., ::2, ::2] = dense
        return spread


class TomskGenerator(nn.Module):
    """``levels`` upsampling levels of ``2**l * 8 * width`` filters (l = levels, ..., 1) from a dense layer to tanh.

    The branches and filters of a level and the number of six levels are the paper's. The paper does not give, and its
    totals do not determine, latent_dim, the dense first layer to ``base_channels`` maps with batch normalization and
    ReLU, normalization in the levels, and the output (3x3 convolution with bias, tanh). At full size (six levels to
    256 x 256, one channel) there are 17,154,289 parameters with running statistics, 0.47 % more than the 17,074,528 in
    the paper.

    Args:
        image_size: height and width of the images in pixels; a multiple of ``2**levels``.
        channels: channels of the images.
        latent_dim: length of the noise.
        levels: upsampling levels; None: from 4 x 4 pixels to ``image_size``.
        width: multiplier of all channel counts.
        base_channels: maps before the first level, to be multiplied by ``width``.
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: ``image_size`` cannot be reached.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int = 128,
        levels: int | None = None,
        width: float = 1.0,
        base_channels: int = 384,
        num_classes: int = 0,
    ):
        super().__init__()
        levels = tomsk_levels(image_size, levels)
        self.base_size = image_size // 2**levels
        self.latent_dim = latent_dim
        base_channels = max(1, round(base_channels * width))
        self.condition = LabeledNoise(latent_dim, num_classes)
        self.dense = nn.Linear(self.condition.out_features, base_channels * self.base_size**2, bias=False)
        self.norm = nn.BatchNorm2d(base_channels)
        filters = [max(1, round(2**level * 8 * width)) for level in range(levels, 0, -1)]
        inputs = [base_channels, *(3 * count for count in filters)]
        self.levels = nn.Sequential(*map(ParallelUpsampling, inputs, filters))
        self.output = nn.Conv2d(inputs[-1], channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        x = self.dense(self.condition(z, labels))
        x = x.view(z.shape[0], -1, self.base_size, self.base_size)  # (N, base_channels, base, base)
        x = self.levels(torch.relu(self.norm(x)))
        return torch.tanh(self.output(x))
