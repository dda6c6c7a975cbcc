"""The interface of writers of generated images, and the base of writers with one file per image."""

from __future__ import annotations

import abc
import csv
import dataclasses
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from medsynth.contracts import Intensity
from medsynth.errors import InputError


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """The properties that all images of one call share.

    Attributes:
        shape: ``(N, C, H, W)``.
        intensity: the way from [-1, 1] to physical units.
        spacing: millimeters from row to row and from column to column; None: not known.
        modality: DICOM's code of the generator's training images; "" where it is not known.
        class_names: in the order of the labels; empty without labels.
        version: of medsynth.
        generator: the first digits of the generator file's SHA-256; its path may contain private names.
        seed: the option ``seed=``.
    """

    shape: tuple[int, int, int, int]
    intensity: Intensity
    spacing: tuple[float, float] | None
    modality: str
    class_names: tuple[str, ...]
    version: str
    generator: str
    seed: int

    @property
    def made_by(self) -> str:
        """The origin of the images, as one phrase that fits into any header."""
        return f"medsynth {self.version}, generator {self.generator}, seed {self.seed}"

    def check_channels(self, format_name: str, *allowed: int) -> None:
        """Raise InputError unless the format can hold images with this number of channels."""
        channels = self.shape[1]
        if channels not in allowed:
            supported = "gray or RGB images" if 3 in allowed else "gray images only"
            others = "png8 or npy" if channels == 3 else "npy"
            raise InputError(
                f"format={format_name} holds {supported}, but the generator makes {channels} channels: choose {others}."
            )


class Writer(Protocol):
    """A writer of one format, made with the empty folder to write to and the ``ImageSet``.

    Attributes:
        location: the file or subfolder with the images in that folder.
        stored: ``slope`` and ``intercept`` from stored values to physical units, the values' ``type``, and
            the ones for the intensity's ``low`` and ``high``.
    """

    location: str
    stored: dict[str, Any]

    def add(self, number: int, image: Tensor, label: int | None) -> None:
        """Write image ``number``, float64 (C, H, W) in [-1, 1]; images come in the order of their numbers."""

    def close(self) -> None:
        """Write the files about all images, after the last one."""


class FilePerImage(abc.ABC):
    """Base of writers of one file ``images/000000<suffix>`` per image, and a ``table.csv`` of labels for data=csv."""

    location = "images"
    suffix: str

    def __init__(self, folder: Path, images: ImageSet) -> None:
        self.folder, self.images = folder, images
        self._rows: list[tuple[str, str]] = []
        (folder / self.location).mkdir()

    def add(self, number: int, image: Tensor, label: int | None) -> None:
        """Write one image; see Writer."""
        name = f"{self.location}/{number:06d}{self.suffix}"
        self.write(self.folder / name, number, image, label)
        if label is not None:
            self._rows.append((name, self.images.class_names[label]))

    @abc.abstractmethod
    def write(self, path: Path, number: int, image: Tensor, label: int | None) -> None:
        """Write one file; the arguments are those of ``add``."""

    def close(self) -> None:
        """Write the table of labels; see Writer."""
        if self._rows:
            with (self.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("path", "label"), *self._rows])


def to_levels(image: Tensor, levels: int) -> Tensor:
    """Map an image in [-1, 1] to the nearest whole numbers from 0 to ``levels``."""
    return ((image + 1) / 2 * levels).round()


def quantized(intensity: Intensity, levels: int) -> dict[str, Any]:
    """Return ``Writer.stored`` of whole numbers from 0 for ``low`` to ``levels`` for ``high``."""
    slope = (intensity.high - intensity.low) / levels
    stored_type = f"{levels.bit_length()}-bit"
    return {"type": stored_type, "low": 0, "high": levels, "slope": slope, "intercept": intensity.low}


def as_measured(intensity: Intensity) -> dict[str, Any]:
    """Return ``Writer.stored`` of float32 values that are in physical units already."""
    return {"type": "floating-point", "low": intensity.low, "high": intensity.high, "slope": 1.0, "intercept": 0.0}
