"""The projected discriminator (Sauer et al. 2021, "Projected GANs converge faster")."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import Backbone, Features, InputError
from medsynth.discriminator.label import ProjectedMap
from medsynth.discriminator.levels import FrozenLevels

_GOAL = 4  # height and width of each level's map of logits, in positions


class ProjectedDiscriminator(nn.Module):
    """A frozen backbone whose maps are mixed by fixed random convolutions, and a trained discriminator for each level.

    The mixing makes every level depend on deeper ones and distributes information over channels, so that the
    discriminators cannot use a few channels of the backbone only (section 3.2 of the paper). Their spectral
    normalization replaces a gradient penalty.

    Logits are (N, levels * positions), with the same number of positions for each level. The paper adds the levels'
    losses; the mean over all columns, which losses take, is the same divided by the number of levels.

    The paper mentions spectral normalization only; the authors' program has batch normalization in these discriminators
    too. Here as well it kept the generator from collapsing to one image with the paper's Adam (0, 0.99).

    With two backbones (StyleGAN-XL, Sauer et al. 2022) each has its own input mapping, mixing and discriminators.

    Args:
        backbone: will be frozen.
        second_backbone: another backbone, of a different kind: a vision transformer beside a convolutional network.
        image_size: height and width of the images in pixels.
        channels: channels of the images.
        levels: number of maps from each backbone, counted from its end.
        width: channels of the finest level after mixing; doubled with every level.
        normalization: of the discriminators of the levels, beside the spectral one: ``batch``, or ``none``, as a
            gradient penalty needs.
        num_classes: classes of the labels, which enter by projection at each position; 0 means unconditional.

    Raises:
        InputError: no level, no width, more levels than a backbone has, or an unknown normalization.
    """

    has_frozen_features = True

    def __init__(
        self,
        *,
        backbone: Backbone,
        second_backbone: Backbone | None = None,
        image_size: int,
        channels: int,
        levels: int = 4,
        width: int = 64,
        normalization: str = "batch",
        num_classes: int = 0,
    ):
        super().__init__()
        if normalization not in ("batch", "none"):
            raise InputError(f"discriminator.normalization={normalization} is unknown: choose batch or none.")
        for name, value in {"levels": levels, "width": width}.items():
            if value < 1:
                raise InputError(f"discriminator.{name}={value} must be 1 or more.")
        backbones = [backbone] if second_backbone is None else [backbone, second_backbone]
        frozen = [
            FrozenLevels(backbone=each, count=levels, channels=channels, image_size=image_size) for each in backbones
        ]
        self.backbones = nn.ModuleList(frozen)
        self.projections = nn.ModuleList(Projection(maps.channels, width) for maps in frozen)
        widths = level_widths(width, levels)
        sizes = [size for maps in frozen for size in maps.sizes]
        goal = min(_GOAL, *sizes)
        self.discriminators = nn.ModuleList(
            LevelDiscriminator(
                size, goal, channels, widths[-1], batch=normalization == "batch", num_classes=num_classes
            )
            for size, channels in zip(sizes, widths * len(backbones), strict=True)
        )

    def features(self, images: Tensor) -> Features:
        """Return mixed maps of all levels, the finest first, those of the second backbone after those of the first."""
        pairs = zip(self.backbones, self.projections, strict=True)
        return tuple(itertools.chain.from_iterable(mix(maps(images)) for maps, mix in pairs))

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, levels * positions)."""
        pairs = zip(self.discriminators, features, strict=True)
        return torch.cat([discriminator(maps, labels) for discriminator, maps in pairs], dim=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, levels * positions) of images (N, C, H, W)."""
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the light discriminators' parameters."""
        return [{"params": list(self.discriminators.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Calibrate the backbones, then estimate the scale of their maps, on real images in [-1, 1]."""
        for maps in cast("Iterable[FrozenLevels]", self.backbones):
            maps.calibrate(batches)


def level_widths(width: int, levels: int) -> list[int]:
    """Return the channels of each level after mixing, the finest first: ``width``, doubled with every level."""
    return [width * 2**level for level in range(levels)]


class Projection(nn.Module):
    """Fixed random mixing: maps (N, C_l, H_l, W_l), the finest first -> maps (N, widths[l], H_l, W_l).

    Channels are mixed by 1x1 convolutions, then scales from the coarsest to the finest: a level is the sum of its own
    mixed channels and a 3x3 convolution of the next coarser level, upsampled bilinearly to its size (or not at all
    where sizes are equal, as in a vision transformer). Kaiming initialization for linear layers keeps the variance. The
    weights are never trained, but saved as part of the state.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        widths = level_widths(width, len(channels))
        self.across_channels = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1, bias=False) for inputs, outputs in zip(channels, widths, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(coarse, fine, 3, padding=1, bias=False) for fine, coarse in itertools.pairwise(widths)
        )
        for weight in self.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
        self.requires_grad_(False)

    def forward(self, maps: Features) -> Features:
        """Return mixed maps (N, widths[l], H_l, W_l)."""
        mixed = [mix(tensor) for mix, tensor in zip(self.across_channels, maps, strict=True)]
        for level in reversed(range(len(self.across_scales))):
            coarser = self.across_scales[level](mixed[level + 1])
            mixed[level] = mixed[level] + interpolate(coarser, mixed[level].shape[-2:], mode="bilinear")
        return tuple(mixed)


class LevelDiscriminator(nn.Module):
    """A small, spectrally normalized discriminator: ``(N, channels, size, size), (N,) -> logits (N, goal * goal)``.

    4x4 convolutions of stride 2 while the size stays at ``goal`` or above, each doubling the channels up to
    ``max_channels``; a 1x1 convolution; after each batch normalization, if ``batch``, and leaky ReLU. A size between
    ``goal`` and twice that is averaged to ``goal`` at the end.
    """

    def __init__(self, size: int, goal: int, channels: int, max_channels: int, *, batch: bool, num_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        while size // 2 >= goal:
            outputs = min(2 * channels, max_channels)
            layers += _block(nn.Conv2d(channels, outputs, 4, stride=2, padding=1, bias=not batch), batch=batch)
            channels, size = outputs, size // 2
        layers += _block(nn.Conv2d(channels, channels, 1, bias=not batch), batch=batch)
        if size > goal:
            layers.append(nn.AdaptiveAvgPool2d(goal))
        self.layers = nn.Sequential(*layers)
        self.logit = ProjectedMap(channels, num_classes, spectral=True)

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, goal * goal)."""
        return self.logit(self.layers(maps), labels)


def _block(convolution: nn.Conv2d, *, batch: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(convolution.out_channels)] if batch else []
    return [spectral_norm(convolution), *norm, nn.LeakyReLU(0.2)]
