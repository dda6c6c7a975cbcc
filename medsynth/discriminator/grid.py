"""A frozen backbone and small heads on grids of positions: the reference system with a head that trains a generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import Backbone, Features, InputError
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.levels import FrozenLevels


class GridDiscriminator(nn.Module):
    """A logit for each of several levels of a frozen backbone, from a grid of positions on the level's maps.

    The idea of the reference system (Tomsk, 2020; ``TransferDiscriminator``) with a head whose gradient a generator can
    follow: finer levels beside the deepest one, whose gradient with respect to the image is texture; the place of what
    they show; and a nonlinearity, since a linear unit compares the means of two sets alone. docs/transfer.md has the
    measurements.

    A level's maps are standardized on real images; a 1x1 convolution to ``width`` channels and leaky ReLU; the average
    in each field of a ``positions x positions`` grid; one linear unit on all of these. Logits are (N, levels).

    Args:
        backbone: will be frozen.
        image_size: height and width of the images in pixels.
        channels: channels of the images.
        levels: number of maps from the backbone, counted from its end; None: all, at most five.
        positions: height and width of the grid; less where the maps are smaller.
        width: channels of the hidden layer; 0: none, so that each level has a linear unit alone.
        spectral: spectral normalization of both layers.
        num_classes: classes of the labels, which enter by projection; 0 means unconditional.

    Raises:
        InputError: no level, no position, a negative width, or more levels than the backbone has.
    """

    has_frozen_features = True

    def __init__(
        self,
        *,
        backbone: Backbone,
        image_size: int,
        channels: int,
        levels: int | None = None,
        positions: int = 4,
        width: int = 64,
        spectral: bool = True,
        num_classes: int = 0,
    ):
        super().__init__()
        for name, value, least in (("levels", levels, 1), ("positions", positions, 1), ("width", width, 0)):
            if value is not None and value < least:
                raise InputError(f"discriminator.{name}={value} must be {least} or more.")
        self.maps = FrozenLevels(backbone=backbone, count=levels, channels=channels, image_size=image_size)
        self.heads = nn.ModuleList(
            GridHead(inputs, min(positions, size), width, spectral=spectral, num_classes=num_classes)
            for inputs, size in zip(self.maps.channels, self.maps.sizes, strict=True)
        )

    def features(self, images: Tensor) -> Features:
        """Return standardized maps (N, C_l, H_l, W_l) of the levels, the finest first."""
        return self.maps(images)

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, levels)."""
        return torch.cat([head(maps, labels) for head, maps in zip(self.heads, features, strict=True)], dim=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, levels) of images (N, C, H, W)."""
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the heads' parameters."""
        return [{"params": list(self.heads.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Calibrate the backbone, then estimate mean and scale of its maps, on real images in [-1, 1]."""
        self.maps.calibrate(batches)


class GridHead(nn.Module):
    """``maps (N, channels, h, w), (N,) -> logits (N, 1)``: a hidden layer of ``width``, a grid, a linear unit."""

    def __init__(self, channels: int, positions: int, width: int, *, spectral: bool, num_classes: int):
        super().__init__()
        self.positions = positions
        self.hidden: nn.Module = nn.Identity()
        if width:
            mix = nn.Conv2d(channels, width, 1)
            self.hidden = nn.Sequential(spectral_norm(mix) if spectral else mix, nn.LeakyReLU(0.2))
        count = (width or channels) * positions**2
        self.logit = ProjectedLogit(count, num_classes, bias=True, spectral=spectral)

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1)."""
        return self.logit(adaptive_avg_pool2d(self.hidden(maps), self.positions).flatten(1), labels)
