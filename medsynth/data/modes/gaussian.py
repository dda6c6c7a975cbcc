"""Mixtures of Gaussians in the plane, on a ring and on a grid; a point is an image of 2 channels and one pixel.

The proportions are those of the literature. Ring: Metz et al. 2017 (Unrolled GAN) have 8 modes of standard deviation
0.02 on a circle of radius 2, Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN) 0.01 and radius 1: 0.01 of
the radius in each. Grid: 25 modes at a distance of 2, of standard deviation 0.05 (VEEGAN, PacGAN): 0.025 of the
distance. A sample is good within 3 standard deviations of a mode, and a mode is caught by one good sample at least
(VEEGAN, section 4.1). Of the mixture's own samples 1 - exp(-9 / 2), 98.9 %, are good.
"""

from __future__ import annotations

import abc
import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from medsynth.data.errors import check_least
from medsynth.data.modes.source import GOOD_FOR_NONE, ModeSource
from medsynth.errors import InputError

EXTENT = 0.8  # the largest coordinate of a mode, so that its points stay within [-1, 1]
GOOD_WITHIN = 3.0  # standard deviations from the nearest mode


@dataclasses.dataclass(kw_only=True)
class _GaussianMixture(ModeSource, abc.ABC):
    """Points near centers in the plane, all with one standard deviation."""

    image_size: int = 1
    channels: int = 2
    num_images: int = 100_000
    num_val: int = 2500
    num_test: int = 2500
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.channels, self.image_size) != (2, 1):
            raise InputError(
                f"data.channels={self.channels} and data.image_size={self.image_size} are not possible: a point is an "
                "image of 2 channels and 1 pixel, data.channels=2 data.image_size=1."
            )

    @property
    @abc.abstractmethod
    def centers(self) -> np.ndarray:
        """The modes' coordinates ``(num_modes, 2)``."""

    @property
    @abc.abstractmethod
    def deviation(self) -> float:
        """The standard deviation of each coordinate within a mode."""

    def modes(self, images: Tensor) -> Tensor:
        """Return the nearest mode (N,) of points (N, 2, 1, 1) within three standard deviations of it, and -1 beyond."""
        centers = torch.from_numpy(self.centers).to(images.device)
        distances = torch.linalg.vector_norm(images.flatten(1).double()[:, None] - centers, dim=2)
        nearest = distances.min(dim=1)
        return torch.where(nearest.values <= GOOD_WITHIN * self.deviation, nearest.indices, GOOD_FOR_NONE)

    def _names(self) -> tuple[str, ...]:
        return tuple(f"mode at ({x:.2f}, {y:.2f})" for x, y in self.centers + 0.0)

    def _draw(self, modes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        points = self.centers[modes] + self.deviation * rng.standard_normal((len(modes), 2))
        return points[:, :, None, None]


@dataclasses.dataclass(kw_only=True)
class GaussianRing(_GaussianMixture):
    """Modes at equal angles on a circle of radius 0.8; ``sigma`` is a fraction of the radius."""

    num_modes: int = 8
    sigma: float = 0.01

    def __post_init__(self) -> None:
        check_least("data.source.num_modes", self.num_modes, 2)
        _check_sigma(self.sigma, neighbors=2 * math.sin(math.pi / self.num_modes))
        super().__post_init__()

    @property
    def centers(self) -> np.ndarray:
        """The modes' coordinates ``(num_modes, 2)``, counterclockwise from (0.8, 0)."""
        angles = 2 * np.pi * np.arange(self.num_modes) / self.num_modes
        return EXTENT * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    @property
    def deviation(self) -> float:
        """The standard deviation of each coordinate within a mode."""
        return self.sigma * EXTENT


@dataclasses.dataclass(kw_only=True)
class GaussianGrid(_GaussianMixture):
    """Modes on a square grid from -0.8 to 0.8; ``sigma`` is a fraction of the distance of neighbors."""

    side: int = 5
    sigma: float = 0.025

    def __post_init__(self) -> None:
        check_least("data.source.side", self.side, 2)
        _check_sigma(self.sigma, neighbors=1)
        super().__post_init__()

    @property
    def centers(self) -> np.ndarray:
        """The modes' coordinates ``(side**2, 2)``, row by row."""
        line = np.linspace(-EXTENT, EXTENT, self.side)
        return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)

    @property
    def deviation(self) -> float:
        """The standard deviation of each coordinate within a mode."""
        return self.sigma * 2 * EXTENT / (self.side - 1)


def _check_sigma(sigma: float, *, neighbors: float) -> None:
    """Refuse modes that overlap: good samples of neighbors, whose distance is ``neighbors``, must differ."""
    if not 0 < sigma <= neighbors / (2 * GOOD_WITHIN):
        raise InputError(
            f"data.source.sigma={sigma} is not possible: above 0, and at most {neighbors / (2 * GOOD_WITHIN):.3g}, or "
            "modes overlap."
        )
