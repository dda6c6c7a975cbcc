"""Random numbers that follow from an image's noise z: a generator with further random inputs depends on z alone.

The bits of z in float32 give a key, and the key and a number's place the number, by integer arithmetic that is the same
on every device (a multiplicative hash of 32 bits). There is no state to keep, draw or share among processes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_FACTOR = 0x45D9F3B  # of a known hash; below 2**31, so that products of 32 bits stay below 2**63
_STEP = 0x1E3779B9  # between streams; odd


def normal_maps(z: Tensor, height: int, width: int, *, stream: int) -> Tensor:
    """Return standard normal maps (N, 1, height, width), float32; other ones for each ``stream``."""
    return _normal(_hashed(z, height * width, stream=2 + stream)).view(-1, 1, height, width)


def normal_rows(z: Tensor) -> Tensor:
    """Return other noise than ``z`` (N, latent_dim), standard normal, float32."""
    return _normal(_hashed(z, z.shape[1], stream=0))


def uniform_rows(z: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return ``count`` tensors (N,) of numbers in (0, 1), float32."""
    return _uniform(_hashed(z, count, stream=1)).unbind(dim=1)


def _hashed(z: Tensor, count: int, *, stream: int) -> Tensor:
    """Return integers (N, count) of 32 bits."""
    bits = z.detach().to(torch.float32).contiguous().view(torch.int32).long() & _MASK  # (N, latent_dim)
    place = torch.arange(bits.shape[1], device=z.device)
    key = _mixed(_mixed(bits ^ _mixed(place)).sum(dim=1) & _MASK)
    numbers = _mixed((torch.arange(count, device=z.device) + stream * _STEP) & _MASK)
    return _mixed(key[:, None] ^ numbers)


def _mixed(x: Tensor) -> Tensor:
    """Return a hash of 32 bits of integers of 32 bits."""
    for _ in range(2):
        x = ((x >> 16) ^ x) * _FACTOR & _MASK
    return (x >> 16) ^ x


def _uniform(bits: Tensor) -> Tensor:
    """Return the middles of 2**23 equal parts of (0, 1), which float32 represents exactly."""
    return ((bits >> 9).float() + 0.5) / 2**23


def _normal(bits: Tensor) -> Tensor:
    return math.sqrt(2) * torch.erfinv(2 * _uniform(bits) - 1)
