"""Normalization of measured values to [-1, 1]. Each method chooses the two values that become -1 and 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from monai.transforms import ScaleIntensityRange  # pyright: ignore[reportPrivateImportUsage]
from skimage.exposure import equalize_adapthist

from medsynth.contracts import Intensity
from medsynth.data.errors import DataError, check_choice
from medsynth.errors import InputError

# Center and width in HU, as radiologists set them.
WINDOWS = {"lung": (-600.0, 1500.0), "soft_tissue": (40.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0)}
FULL_RANGE = {"8-bit": (0.0, 255.0), "16-bit": (0.0, 65535.0)}  # of the stored types whose range has a meaning
LEAST_SPAN = 8  # values that span less than this part of a range have little contrast in it
METHODS = ("auto", "full_range", "min_max", "percentile", "z_score")
BINS = 65_536  # of the histogram that gives the percentiles of a data set


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of all finite values of a data set.

    ``counts`` is their histogram in BINS equal bins from ``low`` to ``high``.
    """

    low: float
    high: float
    mean: float
    deviation: float
    counts: np.ndarray

    def percentile(self, percent: float) -> float:
        """Return the value below which ``percent`` % of the values lie, to a bin's width."""
        cumulative = np.concatenate([[0], np.cumsum(self.counts)]) / self.counts.sum()
        return float(np.interp(percent / 100, cumulative, np.linspace(self.low, self.high, len(cumulative))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalization:
    """Map measured values to [-1, 1]; values outside are clipped.

    The fields are options of data=; conf/data/base/files.yaml describes them. ``normalize=auto`` is ``full_range``, or
    ``min_max`` where values lie outside of the full range or span less than an eighth of it, as Hounsfield units and
    12 bits do in files of 16. ``clahe`` is contrast-limited adaptive histogram equalization (Zuiderveld 1994, Graphics
    Gems IV), in windows of ``clahe_window`` pixels of the image that is learned. Saad et al. 2022 ("Addressing the
    intra-class mode collapse problem using adaptive input image normalization in GAN-based X-ray images") normalize
    the histograms of a GAN's inputs by their contrast in this way, against mode collapse.

    Raises:
        InputError: an option has an impossible value.
    """

    prefix: ClassVar[str] = ""  # of the options' names, for messages

    window: str | Sequence[float] | None = None
    intensity_range: Sequence[float] | None = None
    normalize: str = "auto"
    normalize_per: str = "data_set"
    percentiles: Sequence[float] = (0.5, 99.5)
    z_score_limit: float = 3
    clahe: float | None = None
    clahe_window: int | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.intensity_range is not None:
            raise InputError(
                f"{self._option('window')} and {self._option('intensity_range')} both set the range of values: "
                "give one of them."
            )
        check_choice(self._option("normalize"), self.normalize, METHODS)
        check_choice(self._option("normalize_per"), self.normalize_per, ("data_set", "image"))
        if self.clahe is not None and not 0 < self.clahe <= 1:
            raise InputError(f"data.clahe={self.clahe} is not possible: choose a number up to 1, for example 0.01.")
        if self.clahe_window is not None and (self.clahe is None or self.clahe_window < 2):
            raise InputError(
                f"data.clahe_window={self.clahe_window} is not possible: choose 2 pixels or more, and a clip limit, "
                "for example data.clahe=0.01."
            )
        if self.z_score_limit <= 0:
            raise InputError(
                f"data.z_score_limit={self.z_score_limit} is not possible: more than 0 standard deviations."
            )
        low, high = _increasing("data.percentiles", self.percentiles)
        if low < 0 or high > 100:
            raise InputError(f"data.percentiles={list(self.percentiles)} are not possible: choose from 0 to 100.")
        _ = self.fixed

    @cached_property
    def fixed(self) -> tuple[float, float] | None:
        """The values that become -1 and 1 where a window or a range sets them; None: ``normalize`` finds them."""
        if self.window is not None:
            return _window(self._option("window"), self.window)
        return None if self.intensity_range is None else _increasing(self.fixed_by, self.intensity_range)

    @property
    def fixed_by(self) -> str:
        """The option that sets ``fixed``."""
        return self._option("window" if self.window is not None else "intensity_range")

    def _option(self, name: str) -> str:
        return f"data.{self.prefix}{name}"

    @property
    def per_image(self) -> bool:
        """True if each image is scaled by itself."""
        return self.normalize_per == "image" and self.fixed is None

    def key(self) -> dict[str, object]:
        """Return the options that the prepared images depend on."""
        options = dataclasses.asdict(self)
        if self.clahe_window is None:
            del options["clahe_window"]  # data sets that were prepared before there was this option stay the same
        return options

    def bounds(self, statistics: Statistics, stored_types: Iterable[str]) -> tuple[float, float]:
        """Return the values that become -1 and 1 in the whole data set.

        Raises:
            DataError: they are equal or outside the data's range, or these types have no full range.
        """
        observed = f"[{statistics.low:g}, {statistics.high:g}]"
        if self.fixed is not None:
            low, high = self.fixed
            if low >= statistics.high or high <= statistics.low:
                raise DataError(
                    f"{self.fixed_by} from {low:g} to {high:g} does not overlap the values, which span {observed}: "
                    f"choose a range that does."
                )
        elif self.normalize in ("auto", "full_range"):
            types = sorted(set(stored_types))
            if len(types) > 1 or types[0] not in FULL_RANGE:
                raise DataError(
                    f"{self._option('normalize')}={self.normalize} has no meaning for {' and '.join(types)} images, "
                    f"whose values span {observed}: set {self._option('intensity_range')}=[low,high], "
                    f"{self._option('window')} or {self._option('normalize')}=percentile."
                )
            low, high = self._full_range(types[0], statistics.low, statistics.high)
        elif self.normalize == "min_max":
            low, high = statistics.low, statistics.high
        elif self.normalize == "percentile":
            low, high = (statistics.percentile(percent) for percent in self.percentiles)
        else:
            reach = self.z_score_limit * statistics.deviation
            low, high = statistics.mean - reach, statistics.mean + reach
        if not low < high:
            raise DataError(
                f"{self._option('normalize')}={self.normalize} finds {low:g} as the lowest and {high:g} as the highest "
                f"value, an empty range: set {self._option('intensity_range')}=[low,high]; the values span {observed}."
            )
        return low, high

    def intensity(self, bounds: tuple[float, float], unit: str) -> Intensity:
        """Return the way back from [-1, 1]: to physical units, unless each image was scaled by itself."""
        if self.clahe is not None:
            return Intensity(0.0, 1.0, "equalized level (CLAHE)")
        if not self.per_image:
            return Intensity(*bounds, unit)
        if self.normalize == "z_score":
            return Intensity(-self.z_score_limit, self.z_score_limit, "standard deviations of the image")
        return Intensity(0.0, 1.0, f"fraction of the image's own range ({self.normalize})")

    def __call__(self, images: np.ndarray, bounds: tuple[float, float], stored_types: Sequence[str]) -> np.ndarray:
        """Map measured values ``(N, C, H, W)`` to float32 in [-1, 1]; -inf, the value of padding, becomes -1."""
        if self.per_image:
            each = [self._own_bounds(image, kind) for image, kind in zip(images, stored_types, strict=True)]
            scaled = np.stack([_scale(image, *bounds) for image, bounds in zip(images, each, strict=True)])
        else:
            scaled = _scale(images, *bounds)
        if self.clahe is None:
            return scaled
        return np.stack([_equalized(image, self.clahe, self.clahe_window) for image in scaled])

    def _full_range(self, stored_type: str, low: float, high: float) -> tuple[float, float]:
        """Return the range of a stored type; with ``auto`` [low, high] if these values do not suit it."""
        full = FULL_RANGE[stored_type]
        return (low, high) if self.normalize == "auto" and low < high and not _suits(full, low, high) else full

    def _own_bounds(self, image: np.ndarray, stored_type: str) -> tuple[float, float]:
        values = image[np.isfinite(image)]
        if self.normalize in ("auto", "full_range"):
            if stored_type not in FULL_RANGE:
                raise DataError(
                    f"{self._option('normalize')}={self.normalize} has no meaning for {stored_type} images: choose "
                    "min_max or percentile."
                )
            return self._full_range(stored_type, float(values.min()), float(values.max()))
        if self.normalize == "z_score":
            mean, reach = float(values.mean()), self.z_score_limit * float(values.std())
            return mean - reach, mean + reach
        low, high = (0.0, 100.0) if self.normalize == "min_max" else self.percentiles
        low, high = np.percentile(values, [low, high])
        # In a black image with a few bright pixels the percentiles coincide, the extremes do not.
        return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def _suits(full: tuple[float, float], low: float, high: float) -> bool:
    """Return whether values lie in a stored type's range and span an eighth of it; Hounsfield units do not."""
    return full[0] <= low and high <= full[1] and high - low >= (full[1] - full[0]) / LEAST_SPAN


def statistics(chunks: Iterator[np.ndarray] | Sequence[np.ndarray], low: float, high: float) -> Statistics:
    """Compute statistics of the finite values in arrays of any shape; all lie between ``low`` and ``high``."""
    counts = np.zeros(BINS, dtype=np.int64)
    total = squares = count = 0.0
    middle = (low + high) / 2  # sums of squares of values far from 0 would lose precision
    for chunk in chunks:
        values = chunk[np.isfinite(chunk)].astype(np.float64)
        bins = ((values - low) * (BINS / max(high - low, 1e-30))).astype(np.int64).clip(0, BINS - 1)
        counts += np.bincount(bins, minlength=BINS)
        total += (values - middle).sum()
        squares += np.square(values - middle).sum()
        count += values.size
    mean = total / count
    return Statistics(low, high, middle + mean, max(squares / count - mean**2, 0.0) ** 0.5, counts)


def _equalized(image: np.ndarray, clip_limit: float, window: int | None) -> np.ndarray:
    channels = [equalize_adapthist((channel + 1) / 2, window, clip_limit) for channel in image.astype(np.float64)]
    return (2 * np.stack(channels) - 1).clip(-1, 1).astype(np.float32)


def _scale(image: np.ndarray, low: float, high: float) -> np.ndarray:
    if not low < high:
        return np.full_like(image, -1.0)
    # In double precision: float32 would move some of 65,536 levels by several steps.
    scale = ScaleIntensityRange(low, high, -1.0, 1.0, clip=True, dtype=np.float64)
    return np.asarray(scale(image.astype(np.float64))).astype(np.float32)


def _window(option: str, window: str | Sequence[float]) -> tuple[float, float]:
    if isinstance(window, str):
        if window not in WINDOWS:
            raise InputError(f"{option}={window} is unknown: choose {', '.join(WINDOWS)}, or give [center,width].")
        window = WINDOWS[window]
    if len(window) != 2 or not window[1] > 0:
        raise InputError(f"{option}={list(window)} is not possible: give [center,width] with a width above 0.")
    center, width = map(float, window)
    return center - width / 2, center + width / 2


def _increasing(option: str, values: Sequence[float]) -> tuple[float, float]:
    if isinstance(values, str) or len(values) != 2 or not values[0] < values[1]:
        raise InputError(f"{option}={values} is not possible: give [low,high] with low below high.")
    return float(values[0]), float(values[1])
