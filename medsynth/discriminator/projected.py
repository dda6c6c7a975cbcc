"""The projected discriminator (Sauer et al. 2021, "Projected GANs converge faster")."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import Backbone, Features, InputError
from medsynth.discriminator.label import ProjectedMap
from medsynth.discriminator.levels import FrozenLevels

_COARSEST = 16  # height and width of the coarsest level's map, so that its discriminator has a layer of its own too
_END = 8  # height and width of the maps from which the logits are computed


class ProjectedDiscriminator(nn.Module):
    """A frozen backbone whose maps are mixed by fixed random convolutions, and a trained discriminator for each level.

    The mixing makes every level depend on deeper ones and distributes information over channels, so that the
    discriminators cannot use a few channels of the backbone only (section 3.2 of the paper). Their spectral
    normalization replaces a gradient penalty.

    Logits are (N, levels * 25). The paper adds the levels' losses; the mean over all columns, which losses take, is the
    same divided by the number of levels.

    Layer by layer it is the authors' program, which has more than the paper's text: batch normalization in the light
    discriminators, 1x1 convolutions across scales, maps that are upsampled once more after mixing, one 4x4 convolution
    without padding for the logits. It departs from the program in this:

    * Maps are standardized before mixing (``FrozenLevels``); the convolutions of the mixing have no biases, which
      would only add constants to them, and their initialization keeps the variance.
    * A level's map is enlarged to 16, 32, 64, ... pixels, whatever is nearest to twice its size, so that all levels end
      at 8 x 8 and have 25 logits each. The program reckons with these sizes for images of 256 pixels, and computes maps
      of 112 to 14 pixels and 16 logits from its 224.
    * Images are not enlarged to 224 pixels unless ``backbone.input_size`` says so: at 128 pixels a training on images
      of 64 sees 0.55 times as many of them in the same CPU time.
    * Labels enter by projection at each position instead of by a product with an embedded label alone.

    With two backbones (StyleGAN-XL, Sauer et al. 2022) each has its own input mapping, mixing and discriminators.

    Args:
        backbone: will be frozen.
        second_backbone: another backbone, of a different kind: a vision transformer beside a convolutional network.
        image_size: height and width of the images in pixels.
        channels: channels of the images.
        levels: number of maps from each backbone, counted from its end.
        width: channels of the finest level after mixing; the next has as many, each further one twice as many.
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
        self.discriminators = nn.ModuleList(
            LevelDiscriminator(
                enlarged_size(size), inputs, 2 * widths[-1], batch=normalization == "batch", num_classes=num_classes
            )
            for maps in frozen
            for size, inputs in zip(maps.sizes, widths, strict=True)
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
    """Return the channels of each level after mixing, the finest first: ``width`` twice, then doubled each time."""
    return [width * 2 ** max(0, level - 1) for level in range(levels)]


def enlarged_size(size: int) -> int:
    """Return the height and width to which a level's map is enlarged: 16, 32, 64, ..., the nearest to ``2 * size``."""
    return _COARSEST * 2 ** max(0, round(math.log2(2 * size / _COARSEST)))


class Projection(nn.Module):
    """Fixed random mixing: maps (N, C_l, H_l, W_l), the finest first -> maps (N, widths[l], S_l, S_l).

    Each level's channels are mixed by a 1x1 convolution to ``width``, doubled with every level. Then scales are mixed
    from the coarsest to the finest: to a level the next coarser result is added, upsampled bilinearly to its size (or
    not at all where sizes are equal, as in a vision transformer), and a 1x1 convolution to ``level_widths`` gives its
    result, which is enlarged to ``enlarged_size`` pixels. The convolutions precede the upsampling, with which they
    commute. Kaiming initialization for linear layers keeps the variance. The weights are never trained, but saved as
    part of the state.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        mixed = [width * 2**level for level in range(len(channels))]
        self.across_channels = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1, bias=False) for inputs, outputs in zip(channels, mixed, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1, bias=False)
            for inputs, outputs in zip(mixed, level_widths(width, len(channels)), strict=True)
        )
        for weight in self.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
        self.requires_grad_(False)

    def forward(self, maps: Features) -> Features:
        """Return mixed and enlarged maps (N, widths[l], S_l, S_l)."""
        mixed = [mix(tensor) for mix, tensor in zip(self.across_channels, maps, strict=True)]
        for level in reversed(range(len(mixed))):
            if level + 1 < len(mixed):
                coarser = interpolate(mixed[level + 1], mixed[level].shape[-2:], mode="bilinear")
                mixed[level] = mixed[level] + coarser
            mixed[level] = self.across_scales[level](mixed[level])
        return tuple(interpolate(tensor, enlarged_size(tensor.shape[-1]), mode="bilinear") for tensor in mixed)


class LevelDiscriminator(nn.Module):
    """A small, spectrally normalized discriminator: ``(N, channels, size, size), (N,) -> logits (N, 25)``.

    4x4 convolutions of stride 2 down to 8 x 8 pixels, each followed by batch normalization, if ``batch``, and leaky
    ReLU; then one 4x4 convolution without padding. The last convolution before the logits has ``end_channels``, the
    ones before it half of the next one's each, but no fewer than ``channels``.

    The 4x4 convolution makes position and brightness visible. Batch normalization right before a 1x1 convolution
    subtracts both, since real and generated images are normalized in batches of their own: with such an end logits of
    real and damaged images were 0.1 to 0.2 apart after 80 updates, and are 2.2 to 3.1 (tests/probes.py,
    the embedded network, 4 levels, width 8, seed 0).
    """

    def __init__(self, size: int, channels: int, end_channels: int, *, batch: bool, num_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        while size > _END:
            size //= 2
            outputs = max(channels, end_channels * _END // size)
            layers += _block(nn.Conv2d(channels, outputs, 4, stride=2, padding=1, bias=not batch), batch=batch)
            channels = outputs
        self.layers = nn.Sequential(*layers)
        self.logit = ProjectedMap(channels, num_classes, kernel_size=4, spectral=True)

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 25)."""
        return self.logit(self.layers(maps), labels)


def _block(convolution: nn.Conv2d, *, batch: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(convolution.out_channels)] if batch else []
    return [spectral_norm(convolution), *norm, nn.LeakyReLU(0.2)]
