"""From measured values to [-1, 1]: every normalization is a choice of the two values that become -1 and 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from monai.transforms import ScaleIntensityRange
from skimage.exposure import equalize_adapthist

from medsynth.contracts import InputError, Intensity

# Center and width in HU, as radiologists set them.
WINDOWS = {"lung": (-600.0, 1500.0), "soft_tissue": (40.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0)}
FULL_RANGE = {"8-bit": (0.0, 255.0), "16-bit": (0.0, 65535.0)}  # of the types whose range means something
METHODS = ("full_range", "min_max", "percentile", "z_score")
BINS = 65_536  # of the histogram that percentiles of a data set are read from


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of all finite values of a data set; ``counts`` is their histogram in BINS equal bins from ``low`` to ``high``."""

    low: float
    high: float
    mean: float
    deviation: float
    counts: np.ndarray

    def percentile(self, percent: float) -> float:
        """The value below which ``percent`` % of the values lie, to a bin's width."""
        cumulative = np.concatenate([[0], np.cumsum(self.counts)]) / self.counts.sum()
        return float(np.interp(percent / 100, cumulative, np.linspace(self.low, self.high, len(cumulative))))


class Normalization:
    """What becomes -1 and what becomes 1; values beyond are clipped.

    Args:
        window: one of WINDOWS, or [center, width] in the data's unit.
        intensity_range: [low, high] in the data's unit, instead of a window.
        method: where neither is given: ``full_range`` of the stored type (8 or 16 bit), ``min_max``, ``percentile``, or
            ``z_score`` (mean plus and minus ``z_score_limit`` standard deviations).
        per: ``data_set``, which keeps physical units, or ``image``, which gives them up.
        percentiles: the lower and upper one of ``percentile``.
        z_score_limit: standard deviations from 0 to 1.
        clahe: clip limit (0 to 1, more is stronger) of contrast-limited adaptive histogram equalization (Zuiderveld
            1994, Graphics Gems IV) after all of this; None: none. It gives up physical units.

    Raises:
        InputError: an option has no such value.
    """

    def __init__(
        self,
        *,
        window: str | Sequence[float] | None = None,
        intensity_range: Sequence[float] | None = None,
        method: str = "full_range",
        per: str = "data_set",
        percentiles: Sequence[float] = (0.5, 99.5),
        z_score_limit: float = 3.0,
        clahe: float | None = None,
    ) -> None:
        if window is not None and intensity_range is not None:
            raise InputError("data.window and data.intensity_range say the same thing in two ways: give one of them.")
        for option, value, possible in (
            ("data.normalize", method, METHODS),
            ("data.normalize_per", per, ("data_set", "image")),
        ):
            if value not in possible:
                raise InputError(f"{option}={value} is not possible: {', '.join(possible)}.")
        if clahe is not None and not 0 < clahe <= 1:
            raise InputError(f"data.clahe={clahe} is not possible: it lies between 0 and 1, for example 0.01.")
        if z_score_limit <= 0:
            raise InputError(f"data.z_score_limit={z_score_limit} is not possible: more than 0 standard deviations.")
        self.percentiles = _increasing("data.percentiles", percentiles)
        if self.percentiles[0] < 0 or self.percentiles[1] > 100:
            raise InputError(f"data.percentiles={list(self.percentiles)} are not possible: they lie between 0 and 100.")
        self.fixed = _window(window) if window is not None else None
        self.option = "data.window"
        if intensity_range is not None:
            self.fixed, self.option = _increasing("data.intensity_range", intensity_range), "data.intensity_range"
        self.method = method
        self.per_image = per == "image" and self.fixed is None
        self.z_score_limit = z_score_limit
        self.clahe = clahe

    def key(self) -> dict[str, object]:
        """What the prepared images depend on."""
        return dict(vars(self))

    def bounds(self, statistics: Statistics, stored_types: Iterable[str]) -> tuple[float, float]:
        """The values of the whole data set that become -1 and 1.

        Raises:
            InputError: they are the same, lie beside the data, or there is no full range of these types.
        """
        observed = f"[{statistics.low:g}, {statistics.high:g}]"
        if self.fixed is not None:
            low, high = self.fixed
            if low >= statistics.high or high <= statistics.low:
                raise InputError(
                    f"{self.option} from {low:g} to {high:g} lies beside the values, which span {observed}."
                )
        elif self.method == "full_range":
            types = sorted(set(stored_types))
            if len(types) > 1 or types[0] not in FULL_RANGE:
                raise InputError(
                    f"data.normalize=full_range has no meaning for {' and '.join(types)} images, whose values span "
                    f"{observed}: set data.intensity_range=[low,high], data.window or data.normalize=percentile."
                )
            low, high = FULL_RANGE[types[0]]
        elif self.method == "min_max":
            low, high = statistics.low, statistics.high
        elif self.method == "percentile":
            low, high = (statistics.percentile(percent) for percent in self.percentiles)
        else:
            reach = self.z_score_limit * statistics.deviation
            low, high = statistics.mean - reach, statistics.mean + reach
        if not low < high:
            raise InputError(
                f"data.normalize={self.method} finds the values {low:g} and {high:g}, which leaves nothing between: "
                f"set data.intensity_range, the values span {observed}."
            )
        return low, high

    def intensity(self, bounds: tuple[float, float], unit: str) -> Intensity:
        """The way back from [-1, 1]. Where images were scaled each by itself there is none to physical units."""
        if self.clahe is not None:
            return Intensity(0.0, 1.0, "equalized level (CLAHE)")
        if not self.per_image:
            return Intensity(*bounds, unit)
        if self.method == "z_score":
            return Intensity(-self.z_score_limit, self.z_score_limit, "standard deviations of the image")
        return Intensity(0.0, 1.0, f"fraction of the image's own range ({self.method})")

    def __call__(self, images: np.ndarray, bounds: tuple[float, float], stored_types: Sequence[str]) -> np.ndarray:
        """Measured values ``(N, C, H, W)`` -> float32 in [-1, 1]; -inf, which fills up a picture, becomes -1."""
        if self.per_image:
            each = [self._own_bounds(image, kind) for image, kind in zip(images, stored_types, strict=True)]
            scaled = np.stack([_scale(image, *own) for image, own in zip(images, each, strict=True)])
        else:
            scaled = _scale(images, *bounds)
        return scaled if self.clahe is None else np.stack([self._equalized(image) for image in scaled])

    def _own_bounds(self, image: np.ndarray, stored_type: str) -> tuple[float, float]:
        values = image[np.isfinite(image)]
        if self.method == "full_range":
            if stored_type not in FULL_RANGE:
                raise InputError(
                    f"data.normalize=full_range has no meaning for {stored_type} images: choose min_max or percentile."
                )
            return FULL_RANGE[stored_type]
        if self.method == "z_score":
            mean, reach = float(values.mean()), self.z_score_limit * float(values.std())
            return mean - reach, mean + reach
        low, high = (0.0, 100.0) if self.method == "min_max" else self.percentiles
        low, high = np.percentile(values, [low, high])
        # A few bright pixels on a black image: its percentiles coincide, its extremes do not.
        return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))

    def _equalized(self, image: np.ndarray) -> np.ndarray:
        channels = [
            equalize_adapthist((channel + 1) / 2, clip_limit=self.clahe) for channel in image.astype(np.float64)
        ]
        return (2 * np.stack(channels) - 1).clip(-1, 1).astype(np.float32)


def statistics(chunks: Iterator[np.ndarray] | Sequence[np.ndarray], low: float, high: float) -> Statistics:
    """Of the finite values in arrays of any shape, all of which lie between ``low`` and ``high``."""
    counts = np.zeros(BINS, dtype=np.int64)
    total = squares = count = 0.0
    middle = (low + high) / 2  # sums of squares far from 0 lose their digits
    for chunk in chunks:
        values = chunk[np.isfinite(chunk)].astype(np.float64)
        bins = ((values - low) * (BINS / max(high - low, 1e-30))).astype(np.int64).clip(0, BINS - 1)
        counts += np.bincount(bins, minlength=BINS)
        total += (values - middle).sum()
        squares += np.square(values - middle).sum()
        count += values.size
    mean = total / count
    return Statistics(low, high, middle + mean, max(squares / count - mean**2, 0.0) ** 0.5, counts)


def _scale(image: np.ndarray, low: float, high: float) -> np.ndarray:
    if not low < high:
        return np.full_like(image, -1.0)
    # In double precision: 65,536 levels on float32 would be off by some of their steps.
    scale = ScaleIntensityRange(low, high, -1.0, 1.0, clip=True, dtype=np.float64)
    return np.asarray(scale(image.astype(np.float64))).astype(np.float32)


def _window(window: str | Sequence[float]) -> tuple[float, float]:
    if isinstance(window, str):
        if window not in WINDOWS:
            raise InputError(f"data.window={window} is unknown: choose {', '.join(WINDOWS)}, or give [center,width].")
        window = WINDOWS[window]
    if len(window) != 2 or not window[1] > 0:
        raise InputError(f"data.window={list(window)} is not possible: [center,width], the width more than 0.")
    center, width = map(float, window)
    return center - width / 2, center + width / 2


def _increasing(option: str, values: Sequence[float]) -> tuple[float, float]:
    if isinstance(values, str) or len(values) != 2 or not values[0] < values[1]:
        raise InputError(f"{option}={values} is not possible: [low, high] with low below high.")
    return float(values[0]), float(values[1])
