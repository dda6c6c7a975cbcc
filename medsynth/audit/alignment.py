"""Distances of images after alignment by flips, shifts and small rotations, whatever their brightness and contrast.

Images are compared in their low frequencies, up to ``CYCLES`` per side: noise and detail that a copy loses are above
them. A shift multiplies the coefficients by phases, a flip reverses them, so that one transform of each image serves
all alignments; magnitudes do not change with shifts at all and find the candidates.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from medsynth.audit.planted import rotated
from medsynth.metrics.nearest import nearest

CYCLES = 6  # the highest frequency per side that is compared
SHIFTS = np.arange(-6, 7) / 64  # of the side, along each axis
ANGLES = (0.0, -3.0, 3.0)  # degrees
_WHITE = 0.1  # of the mean power: frequencies with less are not raised to that of the others
_BLOCK = 64  # images aligned at a time
_MERGED = 4096  # rows of two searches that are merged at a time


class Spectrum:
    """Low frequencies of the mean of an image's channels: a metrics.feature_store.ImageDescriber.

    Args:
        image_size: in pixels.
        degrees: by which images are rotated before.
    """

    def __init__(self, image_size: int, degrees: float = 0.0) -> None:
        self.cycles, self.degrees = min(CYCLES, image_size // 2 - 1), degrees
        self.name = f"spectrum {self.cycles} {degrees:g}"
        self.num_features = 2 * (2 * self.cycles + 1) * (self.cycles + 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the real and imaginary parts of the coefficients, (N, num_features)."""
        gray = rotated(images.float().mean(1, keepdim=True), self.degrees)[:, 0]
        found = torch.fft.rfft2(gray, norm="forward")[:, :, : self.cycles + 1]
        found = torch.cat([found[:, -self.cycles :], found[:, : self.cycles + 1]], dim=1)  # rows -cycles .. cycles
        return torch.view_as_real(found).flatten(1)


class Alignment:
    """The least distances of images to training images over all alignments.

    Frequencies are weighted so that each has the same mean power in the training images (whitening): what all images
    have in common counts little.

    Args:
        training: features (N, d) of ``Spectrum``.
        image_size: in pixels.
    """

    def __init__(self, training: np.ndarray, image_size: int) -> None:
        self.cycles, self.image_size = min(CYCLES, image_size // 2 - 1), image_size
        power = _mean(part.abs().square().double() for part in _blocks(training, self.cycles))
        power[self.cycles, 0] = torch.inf  # the mean intensity
        strength = power[power.isfinite()].mean()
        twice = torch.full((self.cycles + 1,), 2.0)  # the other half of the frequencies is their conjugate
        twice[0] = 1
        self._weights = (twice / (power + _WHITE * strength).clamp(min=1e-30)).sqrt().to(torch.float32)
        self._center = _mean(_magnitudes(part).double() for part in _blocks(training, self.cycles)).float()

    def nearest(self, rotations: list[np.ndarray], others: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances (N, count), ascending, and rows of the candidates among ``others`` after alignment.

        Args:
            rotations: features (N, d) of the images at each of ``ANGLES``, the first unrotated.
            others: features (M, d) of the unrotated images that they are aligned with.
            count: candidates.
        """
        own = self._described(rotations[0], flipped=False)
        mirrored = self._described(rotations[0], flipped=True)
        described = self._described(others, flipped=False)
        _, rows = merged(nearest(own, described, count), nearest(mirrored, described, count))
        distances = np.empty(rows.shape)
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            distances[part] = self._aligned([_complex(r[part], self.cycles) for r in rotations], others, rows[part])
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)

    def _described(self, features: np.ndarray, *, flipped: bool) -> np.ndarray:
        parts = []
        for part in _blocks(features, self.cycles):
            values = _magnitudes(part.flip(1) if flipped else part) - self._center
            parts.append(values.flatten(1).numpy())
        return np.concatenate(parts)

    def _aligned(self, rotations: list[Tensor], others: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return 1 - the greatest normalized correlation (n, k) over rotations, flips and shifts."""
        targets = self._normalized(_complex(others[rows.ravel()], self.cycles)).reshape(*rows.shape, *self._shape)
        shifts = torch.as_tensor(SHIFTS, dtype=torch.float32)
        down = torch.exp(2j * torch.pi * shifts[:, None] * torch.arange(-self.cycles, self.cycles + 1))
        right = torch.exp(2j * torch.pi * torch.arange(self.cycles + 1)[:, None] * shifts)
        greatest = torch.full(rows.shape, -1.0)
        for images in rotations:
            for flipped in self._flips(images):
                products = self._normalized(flipped)[:, None].conj() * targets
                greatest = torch.maximum(greatest, (down @ products @ right).real.flatten(2).amax(2))
        return (1 - greatest.clamp(max=1)).numpy()

    @property
    def _shape(self) -> tuple[int, int]:
        return 2 * self.cycles + 1, self.cycles + 1

    def _flips(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the coefficients of images as they are, flipped left and right, up and down, and both."""
        pixel = 2j * torch.pi / self.image_size
        across = torch.exp(pixel * torch.arange(self.cycles + 1))
        along = torch.exp(pixel * torch.arange(-self.cycles, self.cycles + 1))[:, None]
        yield x
        yield x.flip(1).conj() * across
        yield x.flip(1) * along
        yield x.conj() * along * across

    def _normalized(self, x: Tensor) -> Tensor:
        weighted = x * self._weights
        return weighted / weighted.abs().square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-12)


def merged(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest rows of two searches, each row once: distances and rows (N, k), ascending."""
    parts = [_merged(first, second, slice(start, start + _MERGED)) for start in range(0, len(first[0]), _MERGED)]
    distances, rows = zip(*parts, strict=True)
    return np.concatenate(distances), np.concatenate(rows)


def _merged(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], part: slice
) -> tuple[np.ndarray, np.ndarray]:
    distances, rows = (np.concatenate([a[part], b[part]], axis=1) for a, b in zip(first, second, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")
    distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
    seen = (rows[:, :, None] == rows[:, None, :]) & np.tri(rows.shape[1], k=-1, dtype=bool)
    distances = np.where(seen.any(2), np.inf, distances)
    order = np.argsort(distances, axis=1, kind="stable")[:, : first[0].shape[1]]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)


def _magnitudes(x: Tensor) -> Tensor:
    magnitudes = x.abs().sqrt()
    magnitudes[:, x.shape[2] - 1, 0] = 0  # the mean intensity
    return magnitudes / magnitudes.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]


def _complex(features: np.ndarray, cycles: int) -> Tensor:
    parts = torch.as_tensor(np.array(features, dtype=np.float32))
    return torch.view_as_complex(parts.reshape(len(parts), 2 * cycles + 1, cycles + 1, 2))


def _blocks(features: np.ndarray, cycles: int) -> Iterator[Tensor]:
    for first in range(0, len(features), 4096):
        yield _complex(features[first : first + 4096], cycles)


def _mean(parts: Iterator[Tensor]) -> Tensor:
    total, count = torch.zeros(()), 0
    for part in parts:
        total, count = total + part.sum(0), count + len(part)
    return total / count
