"""Minibatch discrimination (Salimans et al. 2016, "Improved techniques for training GANs", section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth.contracts import InputError
from medsynth.minibatch.beside import beside


class MinibatchDiscrimination(nn.Module):
    """Closeness of each image to the others of its batch, in learned coordinates, as further features or maps.

    ``M_i = f(x_i) T``, a matrix of ``kernels`` rows of ``dimensions``; ``c_b(i, j) = exp(-|M_ib - M_jb|_1)``; image i
    gets the features ``o_b(i) = sum over j of c_b(i, j)`` (section 3.2; the image itself counts, as in the paper, and
    adds 1). Maps (N, C, H, W) enter T as C * H * W features. The sum over images grows with their number, which is that
    of what is computed at a time: a microbatch with ``task.accumulate`` above 1, on several devices one device's share.

    T starts from N(0, 1 / inputs), so that M has the features' scale; the paper says nothing of it. It is not
    normalized where ``discriminator.normalization=spectral`` normalizes all other layers.

    Args:
        channels: of the features or maps.
        positions: of the maps, H times W; 1 for features.
        kernels: features that are added; 100 in the authors' program.
        dimensions: coordinates of each kernel; 5 in the authors' program.

    Raises:
        InputError: no kernel or no dimension.
    """

    def __init__(self, channels: int, positions: int, *, kernels: int = 100, dimensions: int = 5):
        super().__init__()
        for name, value in {"kernels": kernels, "dimensions": dimensions}.items():
            if value < 1:
                raise InputError(f"minibatch.{name}={value} must be 1 or more.")
        self.added = kernels
        inputs = channels * positions
        self.weight = nn.Parameter(torch.randn(inputs, kernels, dimensions) * inputs**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, C + kernels) or (N, C + kernels, H, W)."""
        coordinates = torch.einsum("ni,ibc->nbc", features.flatten(1), self.weight).float()
        distances = (coordinates[:, None] - coordinates[None]).abs().sum(dim=3)  # (N, N, kernels)
        return beside(features, (-distances).exp().sum(dim=1))
