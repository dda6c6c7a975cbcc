"""The vision-aided discriminator (Kumari et al. 2022, "Ensembling off-the-shelf models for GAN training")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import Backbone, Discriminator, Features, InputError, Scheduled, activations
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.levels import FrozenLevels

_MAX_SIZE = 4  # height and width to which a level's maps are averaged, in positions


class VisionAidedDiscriminator(nn.Module):
    """A trained discriminator and small heads on the last levels of a frozen backbone, after a warm-up if asked for.

    During the warm-up only the trained discriminator is used, and the backbone is not run. The pretrained network is
    strong from the start: if it joins too early, the generator cannot keep up (section 4 of the paper). With spectrally
    normalized heads and the learning rates of the default it can, so that there is no warm-up by default
    (docs/presets.md).

    Logits are (N, 2 K'): the trained discriminator's K columns and one column for each of the L levels, each set
    repeated to the least common multiple K' of K and L, the trained one's first. Therefore both have the same weight in
    the losses' mean over the columns, whether the trained discriminator has one logit or a map of them. The paper adds
    the losses of both, which is twice this mean.

    A gradient penalty acts on the mean of the columns with respect to images and maps as separate inputs. After the
    warm-up the trained discriminator is half of that mean: its gradient norm has a factor of 1/2, its square of 1/4,
    and its loss of 1/2. Therefore R1 and R2 act on it as with half their gamma, and on the heads with respect to their
    maps, whose scale is one standard deviation; WGAN-GP bounds the norm of both together.

    ``has_frozen_features`` is false, since the features include the images and change with the warm-up.

    Args:
        trained: any trained discriminator.
        backbone: will be frozen.
        image_size: height and width of the images in pixels.
        channels: channels of the images; the trained discriminator may be given further ones behind them, a source.
        levels: number of maps from the backbone, counted from its end; each has a head of its own. None: all, at most
            five.
        width: channels of the heads.
        warmup_images: real images seen before the backbone is used.
        spectral: spectral normalization of the heads, as in the authors' program.
        num_classes: classes of the labels, which enter the heads by projection; 0 means unconditional.

    Raises:
        InputError: no level, no width, a negative warm-up, packs of images, or more levels than the backbone has.
    """

    has_frozen_features = False

    def __init__(
        self,
        *,
        trained: Discriminator,
        backbone: Backbone,
        image_size: int,
        channels: int,
        levels: int | None = None,
        width: int = 64,
        warmup_images: int = 0,
        spectral: bool = True,
        num_classes: int = 0,
    ):
        super().__init__()
        packing = getattr(trained, "packing", 1)
        if packing > 1:
            raise InputError(
                f"discriminator.trained.packing={packing} cannot be used beside heads on a backbone, which have a "
                "logit for each image: leave it out."
            )
        options = {"levels": (levels, 1), "width": (width, 1), "warmup_images": (warmup_images, 0)}
        for name, (value, least) in options.items():
            if value is not None and value < least:
                raise InputError(f"discriminator.{name}={value} must be {least} or more.")
        self.trained = trained
        self.channels = channels
        self.levels = FrozenLevels(backbone=backbone, count=levels, channels=channels, image_size=image_size)
        self.heads = nn.ModuleList(
            LevelHead(inputs, size, width, spectral=spectral, num_classes=num_classes)
            for inputs, size in zip(self.levels.channels, self.levels.sizes, strict=True)
        )
        self.warmup_images = warmup_images
        self.advance(0)

    def advance(self, images_seen: int) -> None:
        """Use the backbone if ``warmup_images`` real images have been seen."""
        self.warm = images_seen >= self.warmup_images
        if isinstance(self.trained, Scheduled):
            self.trained.advance(images_seen)

    def features(self, images: Tensor) -> Features:
        """Return the trained discriminator's features (the images), then the backbone's maps after the warm-up."""
        return (*self.trained.features(images), *(self.levels(images[:, : self.channels]) if self.warm else ()))

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, K), with the heads on the backbone after the warm-up."""
        if not self.warm:
            return self.trained.head(features, labels)
        count = len(self.heads)
        trained = self.trained.head(features[:-count], labels)
        pairs = zip(self.heads, features[-count:], strict=True)
        aided = torch.cat([head(maps, labels) for head, maps in pairs], dim=1)
        columns = math.lcm(trained.shape[1], count)
        return torch.cat([logits.repeat(1, columns // logits.shape[1]) for logits in (trained, aided)], dim=1)

    def activations(self, features: Features) -> Features:
        """Return those of the trained discriminator, and after the warm-up the backbone's maps."""
        own = len(features) - len(self.heads) * self.warm
        return (*activations(self.trained, features[:own], "discriminator=vision_aided"), *features[own:])

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits of images (N, C, H, W)."""
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters of the trained discriminator and of the heads."""
        return [*self.trained.parameter_groups(), {"params": list(self.heads.parameters())}]

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Calibrate both discriminators on real images in [-1, 1]: statistics of random weights, and scales of maps."""
        self.trained.calibrate(batches)
        self.levels.calibrate([images[:, : self.channels] for images in batches])


class LevelHead(nn.Module):
    """``(N, channels, size, size), (N,) -> logits (N, 1)``: a 3x3 convolution, averaged to 4x4, and two linear layers.

    The paper has such a head with convolutions for maps and one without for pooled features. Leaky ReLU, spectral
    normalization of each layer if ``spectral``; the 4x4 positions are not averaged, since the position of a structure
    matters.
    """

    def __init__(self, channels: int, size: int, width: int, *, spectral: bool, num_classes: int):
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
        if spectral:
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)
        self.logit = ProjectedLogit(width, num_classes, bias=True, spectral=spectral)

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1)."""
        return self.logit(self.layers(maps), labels)
