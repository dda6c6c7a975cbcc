"""What a writer of generated images is told and what it delivers; and the base of those with one file for each."""

from __future__ import annotations

import abc
import csv
import dataclasses
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from medsynth.contracts import InputError, Intensity


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """What all images of one call have in common.

    Attributes:
        shape: ``(N, C, H, W)``.
        intensity: the way from [-1, 1] to physical units.
        spacing: millimeters from row to row and from column to column; None: not known.
        modality: DICOM's code of what the generator has learned from, "" where it is not known.
        class_names: in the order of the labels; empty: there are no labels.
        version: of medsynth.
        generator: the first digits of the generator file's SHA-256. Its path may tell more than it should.
        seed: what was typed as ``seed=``.
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
        """What made the images, in one phrase that fits into any header."""
        return f"medsynth {self.version}, generator {self.generator}, seed {self.seed}"

    def demand_channels(self, format_name: str, *allowed: int) -> None:
        """Raise InputError unless the images have as many channels as the format can hold."""
        channels = self.shape[1]
        if channels not in allowed:
            held = "gray or RGB images" if 3 in allowed else "gray images alone"
            others = "png8 or npy" if channels == 3 else "npy"
            raise InputError(
                f"format={format_name} is for {held}, and this generator makes {channels} channels: choose {others}."
            )


class Writer(Protocol):
    """Of one format; made with the folder to write to, which is empty, and the ``ImageSet``.

    ``place`` is where the images are in that folder. ``stored`` tells how ``stored * slope + intercept`` comes back to
    physical units, with the type of the stored values and those that stand for the intensity's ``low`` and ``high``.
    """

    place: str
    stored: dict[str, Any]

    def add(self, number: int, image: Tensor, label: int | None) -> None:
        """Write image ``number``: float64 (C, H, W) within [-1, 1]. They come in the order of their numbers."""

    def close(self) -> None:
        """After the last image: write what belongs to all of them."""


class FilePerImage(abc.ABC):
    """A file ``images/000000<suffix>`` for each image; with labels, a ``table.csv`` of them, as data=csv reads it."""

    place = "images"
    suffix: str

    def __init__(self, folder: Path, images: ImageSet) -> None:
        self.folder, self.images = folder, images
        self._rows: list[tuple[str, str]] = []
        (folder / self.place).mkdir()

    def add(self, number: int, image: Tensor, label: int | None) -> None:
        name = f"{self.place}/{number:06d}{self.suffix}"
        self.write(self.folder / name, number, image, label)
        if label is not None:
            self._rows.append((name, self.images.class_names[label]))

    @abc.abstractmethod
    def write(self, path: Path, number: int, image: Tensor, label: int | None) -> None:
        """Write one file; the arguments are those of ``add``."""

    def close(self) -> None:
        if self._rows:
            with (self.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("path", "label"), *self._rows])


def to_levels(image: Tensor, levels: int) -> Tensor:
    """An image in [-1, 1] -> the nearest of the whole numbers from 0 to ``levels``."""
    return ((image + 1) / 2 * levels).round()


def quantized(intensity: Intensity, levels: int) -> dict[str, Any]:
    """``Writer.stored`` of whole numbers from 0 for ``low`` to ``levels`` for ``high``."""
    slope = (intensity.high - intensity.low) / levels
    stored_type = f"{levels.bit_length()}-bit"
    return {"type": stored_type, "low": 0, "high": levels, "slope": slope, "intercept": intensity.low}


def as_measured(intensity: Intensity) -> dict[str, Any]:
    """``Writer.stored`` of float32 values that are in physical units already."""
    return {"type": "floating-point", "low": intensity.low, "high": intensity.high, "slope": 1.0, "intercept": 0.0}
