"""The U-Net of pix2pix (Isola et al. 2017, "Image-to-image translation with conditional adversarial networks")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from medsynth.contracts import Features, InputError
from medsynth.generator.output import bounded, check_output
from medsynth.image_sizes import unet_levels
from medsynth.layers.translation import check_residual, middle, normal_weights, with_noise

_NORMALIZATIONS = ("instance", "batch", "none")
_DROPPED = 3  # coarsest blocks of the decoder that have dropout


class UNetTranslator(nn.Module):
    """``(source (N, C_source, H, W), z (N, latent_dim)) -> images (N, C, H, W)`` in [-1, 1].

    As in the paper's section 6.1.1: 4x4 convolutions of stride 2 with leaky ReLU down to one pixel, transposed ones
    with ReLU back up, each of which sees the map of the same size on the way down too; ``width`` maps at first, doubled
    up to 8 times, no normalization of the first and the last map of the way down (the authors' program), weights from
    N(0, 0.02). MONAI's networks of that name have other blocks, so that they are not used. Departures:

    * Instance normalization: the paper's batch normalization in batches of one image is the same, and this does not
      depend on the batch size.
    * No dropout by default. The paper has it in place of noise, and reports that it changes little; here noise comes
      as ``latent_dim`` maps beside the source, so that a sample can be made again.
    * The output is clamped to [-1, 1]: the paper's tanh keeps black from being exactly black (``output.bounded``).

    Args:
        image_size: height and width in pixels, divisible by ``2**levels``.
        channels: channels of the images.
        source_channels: channels of the sources.
        latent_dim: length of the noise; 0: none.
        width: feature maps at half the resolution.
        levels: halvings of the resolution; None: as many as divide the size, 8 at most: to one pixel for powers of two.
        normalization: ``instance``, ``batch`` or ``none``.
        dropout: probability with which values of the three coarsest blocks of the decoder are left out in training.
        residual: the network's values, 0 at first, are added to the source, or to the middle ones of its channels: for
            images of the same kind (Zhang et al. 2017, DnCNN). With ``clamp``.
        output: ``clamp`` or ``tanh``: how values are brought into [-1, 1].

    Raises:
        InputError: less than two levels or too many for the size, or an unknown normalization or output.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        source_channels: int,
        latent_dim: int = 0,
        width: int = 64,
        levels: int | None = None,
        normalization: str = "instance",
        dropout: float = 0.0,
        residual: bool = False,
        output: str = "clamp",
    ):
        super().__init__()
        levels = unet_levels(image_size, levels)
        check_output(output)
        check_residual(residual, channels, source_channels, output)
        if normalization not in _NORMALIZATIONS:
            names = ", ".join(_NORMALIZATIONS)
            raise InputError(f"generator.normalization={normalization} is unknown: choose of {names}.")
        if not 0 <= dropout < 1:
            raise InputError(f"generator.dropout={dropout} must be from 0 to less than 1.")
        self.latent_dim = latent_dim
        self.source_channels = source_channels
        self.bounded_by = output
        self.channels = channels
        self.residual = residual
        widths = [width * 2 ** min(level, 3) for level in range(levels)]
        entering = [source_channels + latent_dim, *widths[:-1]]
        self.down = nn.ModuleList(
            Down(inputs, outputs, normalization if 0 < level < levels - 1 else "none")
            for level, (inputs, outputs) in enumerate(zip(entering, widths, strict=True))
        )
        up: list[nn.Module] = []
        for level in range(levels - 1, 0, -1):
            inputs = widths[level] * (1 if level == levels - 1 else 2)
            dropped = dropout if level >= levels - _DROPPED else 0.0
            up.append(Up(inputs, widths[level - 1], normalization, dropped))
        self.up = nn.ModuleList(up)
        self.last = nn.ConvTranspose2d(2 * widths[0], channels, 4, stride=2, padding=1)
        self.encoding_channels = (source_channels, *widths[: min(levels - 1, 4)])
        self.apply(normal_weights)
        if residual:
            nn.init.zeros_(self.last.weight)

    def forward(self, source: Tensor, z: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        maps = self._way_down(source, z, len(self.down))
        x = maps.pop()
        for block in self.up:
            x = torch.cat([block(x), maps.pop()], dim=1)
        values = self.last(torch.relu(x))
        return bounded(values + middle(source, self.channels) if self.residual else values, self.bounded_by)

    def encoding(self, source: Tensor, z: Tensor | None = None) -> Features:
        """Return the source and the first maps of the way down, four at most."""
        return (source, *self._way_down(source, z, len(self.encoding_channels) - 1))

    def _way_down(self, source: Tensor, z: Tensor | None, count: int) -> list[Tensor]:
        x = with_noise(source, z, self.latent_dim)
        maps: list[Tensor] = []
        for number, block in enumerate(self.down):
            if number == count:
                break
            x = block(leaky_relu(x, 0.2) if number else x)
            maps.append(x)
        return maps


class Down(nn.Module):
    """A 4x4 convolution of stride 2 and a normalization: ``(N, in, H, W) -> (N, out, H / 2, W / 2)``."""

    def __init__(self, inputs: int, outputs: int, normalization: str):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=normalization != "batch")
        self.norm = _norm(outputs, normalization)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, out, H / 2, W / 2)."""
        return self.norm(self.convolution(x))


class Up(nn.Module):
    """ReLU, a transposed 4x4 convolution of stride 2, normalization, dropout: ``(N, in, H, W) -> (N, out, 2H, 2W)``."""

    def __init__(self, inputs: int, outputs: int, normalization: str, dropout: float):
        super().__init__()
        self.convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=normalization != "batch")
        self.norm = _norm(outputs, normalization)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, out, 2H, 2W)."""
        return self.dropout(self.norm(self.convolution(torch.relu(x))))


def _norm(channels: int, normalization: str) -> nn.Module:
    if normalization == "none":
        return nn.Identity()
    return nn.InstanceNorm2d(channels) if normalization == "instance" else nn.BatchNorm2d(channels)
