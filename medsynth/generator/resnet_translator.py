"""The residual translator of CycleGAN (Zhu et al. 2017), after Johnson et al. 2016."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from medsynth.contracts import Features, InputError
from medsynth.generator.output import bounded, check_output
from medsynth.image_sizes import check_resnet_translator
from medsynth.layers.translation import check_residual, middle, normal_weights, with_noise

_SMALL = 128  # pixels up to which there are 6 blocks, and 9 above
_SHOWN_BLOCKS = (0, 4)  # residual blocks whose maps are in the encoding


class ResNetTranslator(nn.Module):
    """``(source (N, C_source, H, W), z (N, latent_dim)) -> images (N, C, H, W)`` in [-1, 1].

    As in the paper's appendix 7.2: a 7x7 convolution, two 3x3 ones of stride 2, residual blocks of two 3x3 ones, two
    transposed ones of stride 2, a 7x7 one; instance normalization and ReLU behind each but the last; reflection padding
    around the 7x7 convolutions and in the blocks; ``width`` maps at full resolution, four times as many in the blocks;
    weights from N(0, 0.02). Departures: ``output`` as in ``UNetTranslator``, and noise, which the paper does not have.

    The encoding is that of CUT (Park et al. 2020): the pixels, the two convolutions of stride 2, and the first and the
    fifth block; the authors' program for it blurs where it halves and doubles the resolution, which this does not.

    Args:
        image_size: height and width in pixels, divisible by 4, and 16 or more.
        channels: channels of the images.
        source_channels: channels of the sources.
        latent_dim: length of the noise; 0: none.
        width: feature maps at full resolution.
        blocks: residual blocks; None: 6 up to 128 pixels, 9 above, as in the paper.
        residual: the network's values, 0 at first, are added to the source, or to the middle ones of its channels: for
            images of the same kind (Zhang et al. 2017, DnCNN). With ``clamp``.
        output: ``clamp`` or ``tanh``: how values are brought into [-1, 1].

    Raises:
        InputError: a size that is not divisible by 4 or less than 16, no block, or an unknown output.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        source_channels: int,
        latent_dim: int = 0,
        width: int = 64,
        blocks: int | None = None,
        residual: bool = False,
        output: str = "clamp",
    ):
        super().__init__()
        check_output(output)
        check_residual(residual, channels, source_channels, output)
        check_resnet_translator(image_size)
        if blocks is not None and blocks < 1:
            raise InputError(f"generator.blocks={blocks} must be 1 or more.")
        count = blocks or (6 if image_size <= _SMALL else 9)
        self.latent_dim = latent_dim
        self.source_channels = source_channels
        self.bounded_by = output
        self.channels = channels
        self.residual = residual
        self.first = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(source_channels + latent_dim, width, 7), *_norm_and_relu(width)
        )
        self.halve1 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.behind1 = nn.Sequential(*_norm_and_relu(2 * width))
        self.halve2 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.behind2 = nn.Sequential(*_norm_and_relu(4 * width))
        self.blocks = nn.ModuleList(ResidualBlock(4 * width) for _ in range(count))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1),
            *_norm_and_relu(2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            *_norm_and_relu(width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels, 7),
        )
        self._shown = tuple(number for number in _SHOWN_BLOCKS if number < count)
        self.encoding_channels = (source_channels, 2 * width, 4 * width, *[4 * width for _ in self._shown])
        self.apply(normal_weights)
        if residual:
            nn.init.zeros_(self.up[-1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, source: Tensor, z: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        x = self.behind1(self.halve1(self.first(with_noise(source, z, self.latent_dim))))
        x = self.behind2(self.halve2(x))
        for block in self.blocks:
            x = block(x)
        values = self.up(x)
        return bounded(values + middle(source, self.channels) if self.residual else values, self.bounded_by)

    def encoding(self, source: Tensor, z: Tensor | None = None) -> Features:
        """Return the source, the maps of the two convolutions of stride 2, and those of the first and fifth block."""
        once = self.halve1(self.first(with_noise(source, z, self.latent_dim)))
        twice = self.halve2(self.behind1(once))
        maps, x = [source, once, twice], self.behind2(twice)
        for number in range(self._shown[-1] + 1):
            x = cast(Tensor, self.blocks[number](x))
            if number in self._shown:
                maps.append(x)
        return tuple(maps)


class ResidualBlock(nn.Module):
    """``x + f(x)`` with two 3x3 convolutions in f, each normalized, ReLU between them: ``(N, C, H, W) -> the same``."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_norm_and_relu(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, C, H, W)."""
        return torch.add(x, self.layers(x))


def _norm_and_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU()
