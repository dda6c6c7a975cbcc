"""The values of one side of a pair, or of images without a target, on their way to [-1, 1]."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from medsynth.data.intensity import Normalization, statistics
from medsynth.data.manifest import Histogram, IntensityRecord

HISTOGRAM_BINS = 100
CHUNK = 256  # images normalized at a time


@dataclasses.dataclass
class Side:
    """The channels of one side of a pair, or of images without a target, and their map to [-1, 1].

    Attributes:
        channels: of the prepared images.
        normalization: of their values.
        extremes: the lowest and highest value of each image.
        stored_types: of each image's file.
        observed: statistics of the values; ``read`` sets it.
        bounds: the values that become -1 and 1; ``read`` sets them.
        after: counts of the mapped values over [-1, 1], in ``HISTOGRAM_BINS`` bins.
    """

    channels: slice
    normalization: Normalization
    extremes: Sequence[tuple[float, float]]
    stored_types: Sequence[str]

    def read(self, values: np.ndarray) -> None:
        """Find the bounds of the values (N, all channels, H, W)."""
        low, high = min(low for low, _ in self.extremes), max(high for _, high in self.extremes)
        self.observed = statistics((chunk[:, self.channels] for chunk in _chunks(values)), low, high)
        self.bounds = (low, high)
        if not self.normalization.per_image:
            self.bounds = self.normalization.bounds(self.observed, self.stored_types)
        self.after = np.zeros(HISTOGRAM_BINS, dtype=np.int64)

    def normalize(self, values: np.ndarray, chunk: slice) -> np.ndarray:
        """Map the images of a chunk (n, all channels, H, W) to [-1, 1] and count the results."""
        normalized = self.normalization(values[:, self.channels], self.bounds, self.stored_types[chunk])
        self.after += np.histogram(normalized, HISTOGRAM_BINS, (-1, 1))[0]
        return normalized

    def intensity(self, unit: str) -> IntensityRecord:
        """Return the way back from [-1, 1]."""
        intensity = self.normalization.intensity(self.bounds, unit)
        return {"low": intensity.low, "high": intensity.high, "unit": intensity.unit}

    def histograms(self) -> tuple[Histogram, Histogram]:
        """Return the histograms of the values before and after."""
        edges = np.linspace(0, len(self.observed.counts), HISTOGRAM_BINS, endpoint=False).astype(int)
        counts = np.add.reduceat(self.observed.counts, edges)
        before = Histogram(low=self.observed.low, high=self.observed.high, counts=counts.tolist())
        return before, Histogram(low=-1.0, high=1.0, counts=self.after.tolist())


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), CHUNK):
        yield np.asarray(values[start : start + CHUNK])
