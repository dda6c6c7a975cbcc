"""Self-attention (Zhang et al. 2019, "Self-attention generative adversarial networks", SAGAN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import InputError


class SelfAttention(nn.Module):
    """Add to each position a learned mean of all positions: ``y = x + gamma * o``, gamma from 0 (equations 1 to 3).

    ``(N, C, H, W)`` -> the same, with ``o_j = v(sum over i of b_ji h(x_i))`` and ``b_ji``, for each j, the softmax over
    i of ``f(x_i) . g(x_j)``; f, g, h and v are 1x1 convolutions without biases, spectrally normalized. As in the
    authors' program, and not in the paper's text: f and g have C / 8 channels and h has C / 2 (C / 8 in the text), and
    f(x) and h(x) are pooled by the maxima of 2 x 2 positions before.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.key = Pointwise(channels, few)  # f
        self.query = Pointwise(channels, few)  # g
        self.value = Pointwise(channels, half)  # h
        self.output = Pointwise(half, channels)  # v
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, C, H, W)."""
        query = self.query(x).flatten(2)  # (N, C / 8, positions)
        key = max_pool2d(self.key(x), 2).flatten(2)  # (N, C / 8, positions / 4)
        value = max_pool2d(self.value(x), 2).flatten(2)  # (N, C / 2, positions / 4)
        weights = torch.bmm(query.transpose(1, 2), key).softmax(dim=2)  # (N, positions, positions / 4)
        mean = torch.bmm(value, weights.transpose(1, 2)).reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.gamma * self.output(mean)


class Pointwise(nn.Module):
    """A spectrally normalized 1x1 convolution without bias: ``(N, inputs, H, W) -> (N, outputs, H, W)``.

    It is no ``nn.Conv2d``, so that a network's own initialization and normalization of those leave it as it is.
    """

    weight: Tensor

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(outputs, inputs, 1, 1)))
        spectral_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, outputs, H, W)."""
        return conv2d(x, self.weight)


def check_attention(attention: int | None, resolutions: Sequence[int], network: str) -> None:
    """Check an option ``attention``, the resolution of the maps that attention stands behind; None: there is none.

    Args:
        attention: the option.
        resolutions: of the maps that it can stand behind, in pixels.
        network: ``generator`` or ``discriminator``, for the error.

    Raises:
        InputError: the network has no maps of this size.
    """
    if attention is not None and attention not in resolutions:
        sizes = ", ".join(map(str, sorted(set(resolutions))))
        raise InputError(
            f"{network}.attention={attention}: at this data.image_size the {network} has no maps of {attention} pixels "
            f"that attention can stand behind; choose one of {sizes}, or null."
        )
