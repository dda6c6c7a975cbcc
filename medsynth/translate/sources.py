"""Sources as a translator was trained on them: values in [-1, 1], the grid, and whether they are of that kind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.contracts import InputError, Intensity
from medsynth.data.geometry import Geometry, central
from medsynth.data.intensity import Normalization
from medsynth.data.pairs import SourceNormalization
from medsynth.data.reading import RawImage
from medsynth.data.source_statistics import QUANTILES, distance, limit
from medsynth.data.whole_series import Series
from medsynth.generator.trained import TrainedTranslator

LARGEST = 4096  # pixels of the side of a translator's images
CHECKED = 64  # slices of a series whose values are compared with those of the training
_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R BT.601, as Geometry
_ALMOST = 0.01  # a grid whose spacing differs from that of the training by a smaller fraction is not resampled


class _EarlierCard(InputError):
    """The card of an earlier version, which lacks what is needed here."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """The way of raw images to a translator.

    Attributes:
        channels: of one slice.
        image_size: height and width of the images of the training, in pixels.
        intensity: the map of the sources to [-1, 1].
        spacing: of the training's images, in mm from row to row and from column to column; None: not known.
        statistics: of the training's sources (``data.source_statistics``); None: none were stored.
        neighbors: slices on either side of the one that is translated.
        bounds: the measured values that become -1 and 1, before an equalization.
        normalization: measured values -> [-1, 1].
        geometry: of the training; None: its images were not made of others.
    """

    channels: int
    image_size: int
    intensity: Intensity
    spacing: tuple[float, float] | None
    statistics: dict[str, Any] | None
    neighbors: int
    bounds: tuple[float, float]
    normalization: Normalization
    geometry: Geometry | None

    def mapped(self, raw: RawImage, values: Tensor | None = None) -> Tensor:
        """Return a slice (C, H, W) in [-1, 1], float32; ``values`` in place of those of ``raw``."""
        image = torch.from_numpy(np.ascontiguousarray(raw.values)) if values is None else values
        if self.channels == 1 and len(image) == 3:
            image = (image * _LUMA).sum(0, keepdim=True)
        image = image.expand(self.channels, -1, -1)
        mapped = self.normalization(image.numpy()[None], self.bounds, [raw.stored_type])
        return torch.from_numpy(mapped[0])

    def on_grid(self, image: Tensor, raw: RawImage) -> Tensor:
        """Return an image (C, H, W) with pixels as in the training: of that spacing, or that fraction of an image."""
        height, width = image.shape[-2:]
        down, across = self._scales(raw)
        if max(abs(down - 1), abs(across - 1)) <= _ALMOST:
            return image
        return resized(image, max(1, round(height * down)), max(1, round(width * across)))

    def check(self, series: Series, place: str, *, allowed: bool) -> dict[str, float] | None:
        """Refuse a series that is not of the kind of the training's sources.

        Args:
            series: the slices.
            place: names the series in a message.
            allowed: refuse nothing.

        Returns:
            The ``distance`` of its values from the training's and the ``limit`` beyond which they are refused; None:
            there are no statistics.

        Raises:
            InputError: another modality, or other values.
        """
        if not self.statistics:
            return None
        trained = self.statistics.get("modality") or ""
        if trained and series.modality and series.modality != trained and not allowed:
            raise InputError(
                f"{place} is of modality {series.modality}, and the translator was trained on {trained}: give such "
                "images, or translate it all the same with allow_other_source=true."
            )
        count = min(len(series.slices), CHECKED)
        chosen = [series.slices[number * len(series.slices) // count] for number in range(count)]
        far = distance([self._as_trained(raw) for raw in chosen], self.intensity, self.statistics)
        most = limit(self.statistics)
        if far > most and not allowed:
            raise InputError(
                f"The values of {place} are not like those that the translator was trained on: their distributions "
                f"are {100 * far:.0f} % of its range apart, and {100 * most:.0f} % at most are usual; check modality, "
                "unit and window, or translate it all the same with allow_other_source=true."
            )
        return {"distance": far, "limit": most}

    def _as_trained(self, raw: RawImage) -> Tensor:
        """Prepare an image as those of the training were."""
        if self.geometry is None:
            return self.on_grid(self.mapped(raw), raw)
        geometry = dataclasses.replace(self.geometry, channels=self.channels, foreground=None)
        prepared, _ = geometry(dataclasses.replace(raw, values=np.ascontiguousarray(raw.values)))
        return central(self.mapped(raw, torch.from_numpy(prepared)), self.image_size)

    def _scales(self, raw: RawImage) -> tuple[float, float]:
        """Return the pixels of the training for each pixel of a raw image, along rows and columns."""
        if self.spacing and raw.spacing:
            return raw.spacing[0] / self.spacing[0], raw.spacing[1] / self.spacing[1]
        height, width = raw.values.shape[-2:]
        geometry = self.geometry
        size = self.image_size if geometry is None else geometry.size
        if geometry is not None and geometry.resize == "none":
            return 1.0, 1.0
        if geometry is not None and geometry.resize == "stretch":
            return size / height, size / width
        if geometry is not None and geometry.resize == "fit":
            return (size / max(height, width),) * 2
        side = min(height, width)
        if geometry is not None and geometry.crop is not None:
            crop = geometry.crop if isinstance(geometry.crop, int) else min(geometry.crop)
            side = min(side, crop)
        return (size / side,) * 2


def sources_of(translator: TrainedTranslator) -> Sources:
    """Return the way to a translator from its card, a file of anyone; it is tried on a black image.

    Raises:
        InputError: the card is damaged.
    """
    network = cast(nn.Module, translator.network)
    device = next(network.parameters()).device
    try:
        sources, intensity = _sources_of(translator.card, network), translator.intensity
        if not intensity.low < intensity.high:
            raise ValueError("an empty range")
        size = sources.image_size
        with torch.inference_mode():
            made = translator.network(torch.zeros(1, translator.source_channels, size, size, device=device))
        if made.shape != (1, translator.channels, size, size):
            raise ValueError("images of another shape")
    except _EarlierCard:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{translator.path} does not describe the images that it translates ({type(error).__name__}): copy it "
            "again, or train it with this version of medsynth."
        ) from error
    return sources


def _sources_of(card: Mapping[str, Any], network: Any) -> Sources:
    """Return the way to a translator from its card.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the card is damaged; also InputError, from its options.
    """
    statistics: dict[str, Any] | None = card.get("source_statistics")
    options = statistics or {}
    reach, spacing = int(options.get("neighbors", 0)), card.get("spacing")
    size, channels = int(card["image_size"]), int(network.source_channels) // (2 * reach + 1)
    intensity = Intensity(**card["source_intensity"])
    low, high, _ = float(intensity.low), float(intensity.high), str(intensity.unit)
    if (
        not 1 <= size <= LARGEST
        or channels not in (1, 3)
        or channels * (2 * reach + 1) != network.source_channels
        or not low < high
    ):
        raise ValueError("numbers that do not fit each other")
    if statistics and not np.isfinite([*map(float, statistics["quantiles"]), float(statistics["spread"])]).all():
        raise ValueError("quantiles that are no numbers")
    if statistics and len(statistics["quantiles"]) != QUANTILES:
        raise ValueError("another number of quantiles")
    mapping: dict[str, Any] = options.get("normalization") or {"intensity_range": (low, high)}
    normalization = SourceNormalization(**mapping)
    geometry = options.get("geometry")
    return Sources(
        channels=channels,
        image_size=size,
        intensity=intensity,
        spacing=(float(spacing[0]), float(spacing[1])) if spacing else None,
        statistics=statistics,
        neighbors=reach,
        bounds=_bounds(options, normalization, (low, high)),
        normalization=normalization,
        geometry=None if geometry is None else Geometry(**geometry),
    )


def _bounds(
    options: Mapping[str, Any], normalization: Normalization, intensity: tuple[float, float]
) -> tuple[float, float]:
    """Return the measured values that become -1 and 1.

    Cards of earlier versions have them by the options that set them, or as the ends of ``intensity``, which are levels
    without a unit where images were equalized.

    Raises:
        _EarlierCard: it does not have them.
        ValueError: they are damaged.
    """
    stored = options.get("bounds")
    if stored is None and normalization.clahe is not None and not normalization.per_image:
        if normalization.fixed is None:
            raise _EarlierCard(
                "This translator was trained on equalized sources (data.clahe) by a version of medsynth that did not "
                "store their range: train it again with this version."
            )
        return normalization.fixed
    low, high = map(float, intensity if stored is None else stored)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("an empty range")
    return low, high


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Return an image (C, H, W) of another size, interpolated linearly and smoothed where it becomes smaller."""
    if image.shape[-2:] == (height, width):
        return image
    return functional.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


def neighbors(index: int, count: int, reach: int) -> list[int]:
    """Return the indices of a slice and ``reach`` slices on either side; the first and last ones are repeated."""
    return [min(max(index + offset, 0), count - 1) for offset in range(-reach, reach + 1)]


def positive(name: str, value: float, least: float = 1) -> None:
    """Raise InputError if a number is too small."""
    if not (math.isfinite(value) and value >= least):
        raise InputError(f"{name}={value} must be {least:g} or more.")
