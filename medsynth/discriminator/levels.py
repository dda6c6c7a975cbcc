"""Standardized maps of a frozen backbone's last levels, for projected and vision-aided discriminators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from medsynth.contracts import Backbone, Features


class FrozenLevels(nn.Module):
    """``images (N, C, H, W) in [-1, 1] -> standardized maps (N, C_l, H_l, W_l)`` of the last levels, the finest first.

    Networks and levels differ in scale by orders of magnitude, and maps after a ReLU have large means that do not
    depend on the image. Therefore each channel's mean on real images is subtracted, and each level is divided by its
    standard deviation on them (``calibrate``); within a level the channels keep their proportions. The papers do
    without, since they choose networks and heads that suit each other.

    Args:
        backbone: will be frozen, and stays in evaluation mode.
        count: number of levels; None: all, at most five.
        channels: channels of the images.
        image_size: height and width of the images in pixels.

    Attributes:
        channels: C_l of each level.
        sizes: H_l = W_l of each level.

    Raises:
        InputError: the backbone has fewer levels.
    """

    def __init__(self, *, backbone: Backbone, count: int | None, channels: int, image_size: int):
        super().__init__()
        self.backbone = backbone.freeze().eval()
        self.channels = backbone.level_channels(count)
        with torch.no_grad():
            maps = backbone.levels(torch.zeros(1, channels, image_size, image_size), len(self.channels))
        self.sizes = tuple(tensor.shape[-1] for tensor in maps)
        self.standardizations = nn.ModuleList(_Standardization(channels) for channels in self.channels)

    def forward(self, images: Tensor) -> Features:
        """Return standardized maps (N, C_l, H_l, W_l) of the levels, the finest first."""
        maps = self.backbone.levels(images, len(self.channels))
        return tuple(standardize(tensor) for standardize, tensor in zip(self.standardizations, maps, strict=True))

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Calibrate the backbone, then estimate means and deviations of the maps, on real images in [-1, 1]."""
        self.backbone.calibrate(batches)
        total = sum(map(len, batches))
        device = batches[0].device
        means = [torch.zeros(channels, device=device) for channels in self.channels]  # E[x] of each level's channels
        squares = [torch.zeros_like(mean) for mean in means]  # E[x^2]
        for images in batches:
            for level, maps in enumerate(self.backbone.levels(images, len(self.channels))):
                variance, mean = torch.var_mean(maps.float(), dim=(0, 2, 3), correction=0)
                means[level] += mean * (len(images) / total)
                squares[level] += (variance + mean.square()) * (len(images) / total)
        standardizations = cast("Iterable[_Standardization]", self.standardizations)
        for standardize, mean, square in zip(standardizations, means, squares, strict=True):
            standardize.set(mean, (square - mean.square()).mean())

    def train(self, mode: bool = True) -> FrozenLevels:
        """Set the mode; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


class _Standardization(nn.Module):
    """Subtract each channel's mean and divide all channels by one standard deviation; the identity until ``set``."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, maps: Tensor) -> Tensor:
        return (maps - self.mean[:, None, None]) / self.deviation

    def set(self, mean: Tensor, variance: Tensor) -> None:
        self.mean.copy_(mean)
        self.deviation.copy_(variance.clamp_min(1e-12).sqrt())
