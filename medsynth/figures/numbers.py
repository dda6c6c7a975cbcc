"""The numbers behind the figures of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth.contracts import Intensity
from medsynth.metrics.appearance import BINS, ROUNDING_POWER
from medsynth.metrics.interval import Estimate
from medsynth.metrics.neighbors import precision_recall_density_coverage

LEVELS = 64  # of the intensity histogram that is drawn
NEIGHBORS = 5
_FEWEST = 2 * NEIGHBORS + 2  # images of a class on each side

Table = list[dict[str, object]]


def histogram(real: np.ndarray, fake: np.ndarray, intensity: Intensity) -> Table:
    """Return the share of intensities in each of ``LEVELS`` ranges, in the data's unit.

    Args:
        real: rows of ``metrics.appearance.intensity_histograms`` (N, 1025).
        fake: the same of generated images.
        intensity: the way from [-1, 1] to the unit.
    """
    width = BINS // LEVELS
    sides = [_folded(rows.mean(0), width) for rows in (real, fake)]
    edges = intensity.to_physical(torch.linspace(-1, 1, LEVELS + 1)).tolist()
    return [
        {"from": low, "to": high, "real": float(of_real), "generated": float(of_fake)}
        for low, high, of_real, of_fake in zip(edges[:-1], edges[1:], *sides, strict=True)
    ]


def _folded(shares: np.ndarray, width: int) -> np.ndarray:
    """Add up ``width`` neighboring levels each; the last level is that of the upper border alone."""
    folded = shares[:-1].reshape(-1, width).sum(1)
    folded[-1] += shares[-1]
    return folded


def spectrum(real: np.ndarray, fake: np.ndarray) -> Table:
    """Return the mean power in dB at each radial frequency, of rows of ``metrics.appearance.radial_spectra``."""
    sides = [10 * np.log10(rows.mean(0) + ROUNDING_POWER) for rows in (real, fake)]
    return [
        {"cycles": cycles, "real": float(of_real), "generated": float(of_fake)}
        for cycles, (of_real, of_fake) in enumerate(zip(*sides, strict=True), start=1)
    ]


def classes(
    real: np.ndarray,
    fake: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
    *,
    seed: int,
) -> Table:
    """Return precision, recall, density and coverage with their intervals for each class with enough images.

    Args:
        real: features (N, d).
        fake: features (M, d).
        labels: of the real and of the generated images.
        names: of the classes.
        seed: of the intervals.
    """
    rows: Table = []
    for number, name in enumerate(names):
        sides = [side[own == number] for side, own in zip((real, fake), labels, strict=True)]
        if min(map(len, sides)) < _FEWEST:
            continue
        found: dict[str, Estimate] = precision_recall_density_coverage(sides[0], sides[1], k=NEIGHBORS, seed=seed)
        row: dict[str, object] = {"class": name, "images_real": len(sides[0]), "images_generated": len(sides[1])}
        for measure, estimate in found.items():
            row |= {measure: estimate.value, f"{measure}_low": estimate.low, f"{measure}_high": estimate.high}
        rows.append(row)
    return rows


def path_between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Return noise (steps, d) on the great circle from ``first`` (d,) to ``last`` (d,), whose length stays typical.

    White, "Sampling Generative Networks" (2016): on a straight line the noise in the middle is too short for a
    generator that knows Gaussian noise alone.
    """
    ends = torch.stack([first, last]).double()
    length = ends.norm(dim=1, keepdim=True)
    angle = torch.arccos(torch.clamp((ends / length).prod(0).sum(), -1, 1))
    part = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    if angle < 1e-4:
        return torch.lerp(ends[0], ends[1], part).float()
    weights = torch.sin((1 - part) * angle), torch.sin(part * angle)
    direction = (weights[0] * ends[0] / length[0] + weights[1] * ends[1] / length[1]) / torch.sin(angle)
    return (direction * torch.lerp(length[0], length[1], part)).float()


def spread_out(distances: np.ndarray, count: int) -> list[int]:
    """Return ``count`` row numbers: the nearest half, and the rest evenly over the order of their distances."""
    order = [int(row) for row in np.argsort(distances, kind="stable")]
    near = order[: (count + 1) // 2]
    rest = order[len(near) :]
    wanted = min(count - len(near), len(rest))
    places = np.linspace(0, len(rest) - 1, wanted).round().astype(int) if wanted else []
    return near + [rest[int(place)] for place in places]
