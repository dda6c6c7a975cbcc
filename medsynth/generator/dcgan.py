"""The generator of DCGAN (Radford, Metz and Chintala 2016)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from medsynth.contracts import doublings
from medsynth.generator.label import LabeledNoise
from medsynth.layers.attention import SelfAttention, check_attention


class DCGANGenerator(nn.Module):
    """Transposed 4x4 convolutions of stride 2 from 4 x 4 pixels, batch normalization, ReLU, tanh (paper, figure 1).

    Weights start from N(0, 0.02) as in the paper's section 4.

    Args:
        image_size: height and width in pixels; 8, 16, 32, 64, ...
        channels: channels of the images.
        latent_dim: length of the noise.
        width: feature maps before the last layer; doubled with every halving of the resolution.
        max_width: upper bound of the feature maps.
        attention: resolution of the maps that self-attention stands behind (``SelfAttention``); None: there is none.
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: ``image_size`` is not 4 times a power of two, or has no maps for ``attention``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int = 100,
        width: int = 64,
        max_width: int = 512,
        attention: int | None = None,
        num_classes: int = 0,
    ):
        super().__init__()
        levels = doublings(image_size, "generator=dcgan")
        self.latent_dim = latent_dim
        self.condition = LabeledNoise(latent_dim, num_classes)
        widths = [min(width * 2**level, max_width) for level in range(levels - 1, -1, -1)]
        self.first = nn.ConvTranspose2d(self.condition.out_features, widths[0], 4, bias=False)
        check_attention(attention, [4 * 2**level for level in range(levels)], "generator")
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        if attention == 4:
            layers.append(SelfAttention(widths[0]))
        for level, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
            layers += [_upsample(inputs, outputs, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            if attention == 4 * 2**level:
                layers.append(SelfAttention(outputs))
        self.layers = nn.Sequential(*layers, _upsample(widths[-1], channels, bias=True), nn.Tanh())
        self.apply(_initialize)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        x = self.condition(z, labels)[:, :, None, None]  # (N, latent_dim [+ embedding], 1, 1)
        return self.layers(self.first(x))


def _upsample(inputs: int, outputs: int, *, bias: bool) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
