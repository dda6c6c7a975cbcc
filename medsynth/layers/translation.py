"""Layers and first weights that translators share: noise as maps beside the source, and the source itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth.contracts import InputError


def with_noise(source: Tensor, z: Tensor | None, latent_dim: int) -> Tensor:
    """Return ``source`` (N, C, H, W) and behind it ``latent_dim`` maps, each of one value of ``z`` (N, latent_dim).

    Without ``z`` the maps are 0.
    """
    if latent_dim == 0:
        return source
    if z is None:
        z = source.new_zeros(len(source), latent_dim)
    maps = z.to(source.dtype)[:, :, None, None].expand(-1, -1, *source.shape[2:])
    return torch.cat([source, maps], dim=1)


def middle(source: Tensor, channels: int) -> Tensor:
    """Return the middle ``channels`` of (N, C_source, H, W): the slice itself among its neighbors.

    Gray sources of color targets are repeated.
    """
    start = (source.shape[1] - channels) // 2
    return source[:, start : start + channels] if start >= 0 else source[:, :1].expand(-1, channels, -1, -1)


def check_residual(residual: bool, channels: int, source_channels: int, output: str) -> None:
    """Check an option ``generator.residual``.

    Raises:
        InputError: the values of the source cannot be those of the image.
    """
    if residual and output == "tanh":
        raise InputError(
            "generator.residual=true adds to the source, which tanh would change: leave out generator.output."
        )
    if residual and source_channels < channels:
        raise InputError(
            f"generator.residual=true adds to the source, which has {source_channels} channels, and the images have "
            f"{channels}: leave it out."
        )


def normal_weights(module: nn.Module) -> None:
    """Draw the weights of a convolution from N(0, 0.02), and set its biases to 0 (Isola et al. 2017, section 6.2)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
