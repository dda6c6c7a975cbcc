"""The vision-aided discriminator (Kumari et al. 2022, "Ensembling off-the-shelf models for GAN training")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.contracts import Backbone, Discriminator, Features, InputError, Scheduled
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.levels import FrozenLevels

_MAX_SIZE = 4  # height and width to which a level's maps are averaged, in positions


class VisionAidedDiscriminator(nn.Module):
    """A trained discriminator and, once the warm-up is over, small heads on the last levels of a frozen backbone.

    Before the warm-up is over it is the trained discriminator alone, and the backbone is not run. The pretrained
    network is strong from the start: joined too early it leaves the generator behind (the paper's section 4).

    Logits are (N, 2 K'): the trained discriminator's K columns and one column for each of the L levels, each set
    repeated to the least common multiple K' of K and L, the trained one's first. So both sides weigh the same in the
    losses' mean over the columns, whether the trained discriminator gives one logit or a map of them. The paper adds up
    the losses of both, which is twice this mean.

    A gradient penalty acts on the mean of the columns with respect to images and maps as separate inputs. After the
    warm-up the trained discriminator is half of that mean: its gradient norm counts half, its square a quarter, against
    half of its loss. So R1 and R2 hold it as with half their gamma, and the heads are held with respect to their maps,
    whose scale is one standard deviation; WGAN-GP bounds the norm of both together.

    ``has_frozen_features`` is false: the features hold the images, and the warm-up changes them.

    Args:
        trained: any trained discriminator.
        backbone: frozen here.
        image_size: height and width of the images in pixels.
        channels: channels of the images.
        levels: maps that are taken from the backbone, counted from its end; each has a head of its own.
        width: channels of the heads.
        warmup_images: real images that are seen before the backbone joins in.
        num_classes: classes of the labels, which enter the heads by projection; 0 means unconditional.

    Raises:
        InputError: no level, no width, a negative warm-up, or more levels than the backbone has.
    """

    has_frozen_features = False

    def __init__(
        self,
        *,
        trained: Discriminator,
        backbone: Backbone,
        image_size: int,
        channels: int,
        levels: int = 2,
        width: int = 64,
        warmup_images: int = 10_000,
        num_classes: int = 0,
    ):
        super().__init__()
        options = {"levels": (levels, 1), "width": (width, 1), "warmup_images": (warmup_images, 0)}
        for name, (value, least) in options.items():
            if value < least:
                raise InputError(f"discriminator.{name}={value} must be {least} or more.")
        self.trained = trained
        self.levels = FrozenLevels(backbone=backbone, count=levels, channels=channels, image_size=image_size)
        self.heads = nn.ModuleList(
            LevelHead(inputs, size, width, num_classes)
            for inputs, size in zip(self.levels.channels, self.levels.sizes, strict=True)
        )
        self.warmup_images = warmup_images
        self.advance(0)

    def advance(self, images_seen: int) -> None:
        """From ``warmup_images`` on the backbone takes part."""
        self.warm = images_seen >= self.warmup_images
        if isinstance(self.trained, Scheduled):
            self.trained.advance(images_seen)

    def features(self, images: Tensor) -> Features:
        """What the trained discriminator's head sees (the images), then the backbone's maps if they take part."""
        return (*self.trained.features(images), *(self.levels(images) if self.warm else ()))

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        if not self.warm:
            return self.trained.head(features, labels)
        count = len(self.heads)
        trained = self.trained.head(features[:-count], labels)
        pairs = zip(self.heads, features[-count:], strict=True)
        judged = torch.cat([head(maps, labels) for head, maps in pairs], dim=1)
        columns = math.lcm(trained.shape[1], count)
        return torch.cat([logits.repeat(1, columns // logits.shape[1]) for logits in (trained, judged)], dim=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*self.trained.parameter_groups(), {"params": list(self.heads.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate random weights' statistics, then the scale of the maps, on real images in [-1, 1]."""
        self.trained.calibrate(batches)
        self.levels.calibrate(batches)


class LevelHead(nn.Module):
    """``(N, channels, size, size), (N,) -> logits (N, 1)``: a 3x3 convolution, averaged to 4x4, and two linear layers.

    The paper has such a head with convolutions for maps and one without for pooled features. Leaky ReLU, no
    normalization; the 4x4 positions stay apart, since where something is matters in an image.
    """

    def __init__(self, channels: int, size: int, width: int, num_classes: int):
        super().__init__()
        positions = min(size, _MAX_SIZE)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(positions),
            nn.Flatten(),
            nn.Linear(width * positions**2, width),
            nn.LeakyReLU(0.2),
        )
        self.logit = ProjectedLogit(width, num_classes, bias=True)

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.logit(self.layers(maps), labels)
