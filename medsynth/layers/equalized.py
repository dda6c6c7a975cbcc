"""Layers with equalized learning rates (Karras et al. 2018, "Progressive growing of GANs", section 4.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

from medsynth.layers.resampling import blurred

_SLOPE = 0.2
_GAIN = math.sqrt(2)


def activated(x: Tensor) -> Tensor:
    """Return ``sqrt(2) * leaky_relu(x, 0.2)``, which about keeps the mean square of normal values (StyleGAN2's)."""
    return leaky_relu(x, _SLOPE) * _GAIN


class EqualizedLinear(nn.Module):
    """A dense layer with weights from N(0, 1) that are scaled in each pass: ``(N, inputs) -> (N, outputs)``.

    The scale, ``1 / sqrt(inputs)``, is He's initial deviation; Adam then changes all layers by equal parts of it,
    whatever their width. With a ``rate``, weights and biases are stored divided by it and multiplied in each pass, so
    that Adam changes them ``rate`` times as fast. It is computed in the precision of its weights, also in mixed
    precision.

    Args:
        inputs: features.
        outputs: features.
        bias: first value of the biases.
        rate: multiplier of the learning rate.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.gain = rate / math.sqrt(inputs)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, outputs)."""
        with torch.autocast(x.device.type, enabled=False):
            return linear(x.to(self.weight.dtype), self.weight * self.gain, self.bias * self.rate)


class EqualizedConv2d(nn.Module):
    """A convolution with weights from N(0, 1), scaled by ``1 / sqrt(inputs * size**2)`` in each pass.

    ``(N, inputs, H, W) -> (N, outputs, H, W)``, and half of H and W with ``halve``: maps are then blurred before a
    convolution of stride 2 (``resampling.blurred``).

    Args:
        inputs: maps.
        outputs: maps.
        size: height and width of the kernel; odd.
        halve: halve the resolution.
        bias: whether there are biases, from 0.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, halve: bool = False, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * size**2)
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, outputs, H, W) or (N, outputs, H / 2, W / 2)."""
        size = self.weight.shape[2]
        if self.halve:  # the blur's margin is the convolution's padding, and 1 or 2 pixels for its own 4
            return conv2d(blurred(x, margin=size // 2 + 1), self.weight * self.gain, self.bias, stride=2)
        return conv2d(x, self.weight * self.gain, self.bias, padding=size // 2)
