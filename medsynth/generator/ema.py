"""The exponential moving average (EMA) of the generator: what is validated, shown and exported."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.swa_utils import AveragedModel


class EMA(AveragedModel):
    """An exponential moving average whose half-life is in images, so that it does not depend on the batch size.

    Batch statistics are averaged along with the weights, the largest singular values of spectral normalization are
    those of the averaged weights, and the average is always in evaluation mode. The number of
    images that it has seen is in its state dict, so that a resumed run is exact.

    Args:
        module: the network; the average starts as a copy of it.
        half_life: images after which an old state weighs one half.
        rampup: the half-life is at most this fraction of the images seen (Karras et al. 2020, StyleGAN2-ADA), so that
            the noise of the first steps is soon forgotten.
    """

    def __init__(self, module: nn.Module, *, half_life: float, rampup: float):
        super().__init__(module, multi_avg_fn=self._average, use_buffers=True)
        self.half_life = half_life
        self.rampup = rampup
        self.images_averaged: Tensor
        self.register_buffer("images_averaged", torch.zeros((), dtype=torch.int64))
        self._weight = 1.0
        self.requires_grad_(False).eval()

    def update(self, module: nn.Module, images_seen: int) -> None:
        """Move towards ``module``; the weight follows from the images seen since the last update."""
        half_life = min(self.half_life, self.rampup * images_seen)
        images = images_seen - int(self.images_averaged)
        self._weight = 1 - 0.5 ** (images / max(half_life, 1e-8))
        self.update_parameters(module)
        self._normalize()
        self.images_averaged.fill_(images_seen)

    @torch.no_grad()
    def _normalize(self) -> None:
        """Take a step of spectral normalization's power iteration on the averaged weights.

        The mean of two unit vectors is none: with the averaged vectors themselves the values would be too small.
        """
        for layer in self.modules():
            if is_parametrized(layer):
                for steps in cast(nn.ModuleDict, layer.parametrizations).values():
                    steps.train()
                    steps()
                    steps.eval()

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, _: Any) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, self._weight)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
        else:  # counters of batch normalization
            torch._foreach_copy_(averaged, current)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]

    def train(self, mode: bool = True) -> EMA:
        """Stay in evaluation mode."""
        return super().train(False)
