"""Distances without a network: of pixel intensities and of power spectra.

Each image becomes one short row (a histogram, a spectrum), which is all that is kept of it. The value compares the
mean rows of both sides; the interval comes from drawing images, that is rows, again. Rows are a function of the image
alone, and are sorted before they are drawn: batches and their order make no difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.fft import fft2, fftfreq  # pyright: ignore[reportUnknownVariableType] (without types in PyTorch)

from medsynth.contracts import InputError, Intensity, counter_seed
from medsynth.metrics.interval import Estimate

BINS = 1024  # of the intensities, over [-1, 1]
REPLICATES = 500
ROUNDING_POWER = (2 / 255) ** 2 / 12  # the variance of rounding to 8 bits, in units of [-1, 1]

Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]  # mean rows (..., B) of both sides -> distances (...)


def intensity_histograms(images: Tensor) -> np.ndarray:
    """Compute the histograms ``(N, 1025)`` of images ``(N, C, H, W)`` in [-1, 1], each with the sum 1.

    Each value is shared between the two of 1,025 equally spaced levels that it lies between, so that means stay exact;
    what lies outside of [-1, 1] is clamped.
    """
    position = (images.detach().double().flatten(1).clamp(-1, 1) + 1) * (BINS / 2)
    lower = position.floor().clamp(max=BINS - 1)
    upper_share = position - lower
    index = lower.long()
    rows = torch.zeros(len(images), BINS + 1, dtype=torch.float64, device=images.device)
    rows.scatter_add_(1, index, 1 - upper_share).scatter_add_(1, index + 1, upper_share)
    return (rows / position.shape[1]).float().cpu().numpy()


def radial_spectra(images: Tensor) -> np.ndarray:
    """Compute the mean power of images ``(N, C, H, H)`` in [-1, 1] at each radial frequency: ``(N, R)``.

    Entry r - 1 is the mean over the ring of frequencies that round to r cycles per image width, from 1 to the corner,
    H / sqrt(2); channels are averaged. The weighted mean of each image is taken off, and a Hann window in both
    directions keeps the jump from one border to the other from leaking into all frequencies. White noise has its
    variance everywhere but at the lowest frequency, a part of which goes with the mean.
    """
    size = images.shape[-1]
    line = torch.hann_window(size + 2, periodic=False, dtype=torch.float64, device=images.device)[1:-1]
    window = line[:, None] * line
    images = images.detach().double()
    mean = (images * window).sum(dim=(-2, -1), keepdim=True) / window.sum()
    spectrum = cast(Tensor, fft2((images - mean) * window))
    power = spectrum.abs().square().mean(dim=1) / window.square().sum()
    frequency = cast(Tensor, fftfreq(size, 1 / size, dtype=torch.float64, device=images.device))
    ring = torch.hypot(frequency[:, None], frequency).round().long().flatten()
    sums = power.new_zeros(len(images), int(ring.max()) + 1).index_add_(1, ring, power.flatten(1))
    return (sums / ring.bincount())[:, 1:].float().cpu().numpy()


def intensity_distance(real: np.ndarray, fake: np.ndarray, *, seed: int) -> Estimate:
    """Compute the Wasserstein-1 distance of the intensities of two sets of images, given by ``intensity_histograms``.

    How far, on average, intensity has to be moved to make the one distribution the other, in units of [-1, 1].

    Raises:
        InputError: fewer than two images on a side.
    """
    return _distance(real, fake, _wasserstein, seed=seed)


def intensity_value(real: np.ndarray, fake: np.ndarray) -> float:
    """Compute ``intensity_distance`` without its interval."""
    return _value(real, fake, _wasserstein)


def spectrum_value(real: np.ndarray, fake: np.ndarray) -> float:
    """Compute ``spectrum_distance`` without its interval."""
    return _value(real, fake, _decibels_apart)


def spectrum_distance(real: np.ndarray, fake: np.ndarray, *, seed: int) -> Estimate:
    """Compute the root mean square difference in power of two sets of images over radial frequencies, in dB.

    After Durall et al. 2020, "Watch your Up-Convolution: CNN Based Generative Deep Neural Networks are Failing to
    Reproduce Spectral Distributions". The rows are ``radial_spectra``; their mean over the images is taken before the
    logarithm, and the power of rounding to 8 bits added, below which nothing can be seen.

    Raises:
        InputError: fewer than two images on a side, or images of different sizes.
    """
    return _distance(real, fake, _decibels_apart, seed=seed)


class _RowsOfBothSides:
    """Collects the rows of real and generated images."""

    def __init__(self, describe: Callable[[Tensor], np.ndarray], *, seed: int):
        self.seed = seed
        self._describe = describe
        self._rows: dict[bool, list[np.ndarray]] = {True: [], False: []}

    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images ``(N, C, H, W)`` in [-1, 1].

        Raises:
            InputError: values that are not finite.
        """
        if not images.isfinite().all():
            side = "real" if real else "generated"
            raise InputError(f"The {side} images have NaN or infinite values: check where they come from.")
        self._rows[real].append(self._describe(images))

    def rows(self, *, real: bool) -> np.ndarray:
        """Return all rows of one side so far, ``(N, B)``.

        Raises:
            InputError: there are none.
        """
        if not self._rows[real]:
            raise InputError(f"There are no {'real' if real else 'generated'} images to compare.")
        return np.concatenate(self._rows[real])


class IntensityDistance(_RowsOfBothSides):
    """The ``intensity_distance`` of images that arrive in batches.

    Args:
        intensity: the way to physical units, in which the distance is then given as well.
        seed: of the interval.
    """

    def __init__(self, *, intensity: Intensity | None = None, seed: int = 0):
        super().__init__(intensity_histograms, seed=seed)
        self.intensity = intensity

    def compute(self) -> dict[str, Estimate]:
        """Return ``intensity_distance`` in units of [-1, 1], ``intensity_distance_physical`` in ``intensity.unit``.

        Raises:
            InputError: fewer than two images on a side.
        """
        distance = intensity_distance(self.rows(real=True), self.rows(real=False), seed=self.seed)
        values = {"intensity_distance": distance}
        if self.intensity is not None:
            factor = abs(self.intensity.high - self.intensity.low) / 2
            physical = Estimate(distance.value * factor, distance.low * factor, distance.high * factor)
            values["intensity_distance_physical"] = physical
        return values


class SpectrumDistance(_RowsOfBothSides):
    """The ``spectrum_distance`` of images that arrive in batches.

    Args:
        seed: of the interval.
    """

    def __init__(self, *, seed: int = 0):
        super().__init__(radial_spectra, seed=seed)

    def compute(self) -> dict[str, Estimate]:
        """Return ``spectrum_distance`` in dB.

        Raises:
            InputError: fewer than two images on a side, or images of different sizes.
        """
        return {"spectrum_distance": spectrum_distance(self.rows(real=True), self.rows(real=False), seed=self.seed)}


def _wasserstein(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    return np.abs(np.cumsum(real - fake, axis=-1)).sum(axis=-1) * (2 / BINS)


def _decibels_apart(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    difference = 10 * (np.log10(real + ROUNDING_POWER) - np.log10(fake + ROUNDING_POWER))
    return np.sqrt(np.square(difference).mean(axis=-1))


def _distance(real: np.ndarray, fake: np.ndarray, compare: Compare, *, seed: int) -> Estimate:
    """Compute the distance of the mean rows with its bootstrap interval.

    A distance of two finite sets is biased upwards, and that of resampled sets twice as much. Like all intervals of
    measures this one is of the value at these numbers of images, which has the bias: the quantiles of the resampled
    distances are taken relative to their own mean. (Quantiles themselves lie too high, and reflecting them at the
    value, which removes the bias, held the expected value of equal distributions 2 times of 3.)
    """
    for side, rows in (("real", real), ("generated", fake)):
        if len(rows) < 2:
            raise InputError(
                f"The distance needs 2 or more images on each side, and there are {len(rows)} {side} ones."
            )
    if real.shape[1] != fake.shape[1]:
        raise InputError("The spectra of images of different sizes do not compare: bring both sides to one size.")
    value = _value(real, fake, compare)
    again = compare(_resampled(real, seed=seed, side="real"), _resampled(fake, seed=seed, side="fake"))
    below, above = np.quantile(again - again.mean(), [0.025, 0.975])
    return Estimate(value, float(max(value + below, 0.0)), float(value + above))


def _value(real: np.ndarray, fake: np.ndarray, compare: Compare) -> float:
    return float(compare(real.mean(axis=0, dtype=np.float64), fake.mean(axis=0, dtype=np.float64)))


def _resampled(rows: np.ndarray, *, seed: int, side: str) -> np.ndarray:
    """Return mean rows of as many images drawn with replacement, ``(REPLICATES, B)``."""
    key = cast(np.ndarray, np.random.default_rng(0).standard_normal(rows.shape[1]))  # any direction serves to sort by
    order = np.argsort(np.einsum("nb,b->n", rows, key))
    random = np.random.default_rng(counter_seed("appearance", side, seed))
    count = len(rows)
    block = max(1, math.ceil(2**24 / count))  # so many replicates at a time that their counts take 64 MB
    means: list[np.ndarray] = []
    for start in range(0, REPLICATES, block):
        drawn = random.integers(count, size=(min(block, REPLICATES - start), count))
        times = np.stack([np.bincount(order[replicate], minlength=count) for replicate in drawn])
        means.append(times.astype(np.float32) @ rows / count)
    return np.concatenate(means).astype(np.float64)
