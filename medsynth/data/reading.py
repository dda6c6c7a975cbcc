"""The interface of readers, one for each file format: image_folder, dicom, nifti, csv, medmnist, ...

Readers know file names and patients, which may identify people. This knowledge stays in the process: it is passed to
the source alone (``files.ImageFiles``), which shows file names only with data.show_paths=true and keeps patients as
salted hashes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from medsynth.data.errors import Reason
from medsynth.data.tree import Tree

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Record:
    """One unit of reading: a file that holds one image or several, such as a volume.

    Attributes:
        name: the file's name in the reader's tree.
        part: the number of this record where one file makes several (arrays of images).
        class_name: "" where there are no labels, or where the raw images carry them.
        patient: as it is written in the data; "" where it is not known.
        split: "train", "val" or "test" where the data gives it, else "".
        partner: the name of the target image's file, for pairs.
        mask: the name of the file of a pair's foreground.
        series: of slices that follow each other in space: what tells their series from others; "" where none is known.
        place: of the slice in its series, counted from 0.
    """

    name: str
    part: int = 0
    class_name: str = ""
    patient: str = ""
    split: str = ""
    partner: str = ""
    mask: str = ""
    series: str = ""
    place: int = 0


@dataclasses.dataclass(frozen=True)
class RawImage:
    """One two-dimensional image as it was measured.

    Attributes:
        values: float32 ``(C, H, W)``, C 1 or 3, finite, in ``Scan.unit``; of a pair those of the target.
        stored_type: the type in the file: "8-bit", "16-bit", "signed 16-bit", "32-bit integer", "floating-point" ...
        source: of a pair: the image that is to be translated, on the same grid, in ``Scan.source_unit``.
        foreground: ``(H, W)``, True where a pair is measured; None without masks.
        labels: ``(H, W)``, the label map of the image: whole numbers, 0 is the background; None without one.
        place: of the slice in the volume of its file, counted from 0; None where the record gives it.
        spacing: millimeters from row to row and from column to column; None: not known.
        aspect: the height of a pixel divided by its width, where ``spacing`` is not known.
        mask: whether it seems to be a mask, which is refused beside other images; see ``Scan.mask_advice``.
        class_name: overrides the record's, where the label is in the pixels.
        remarks: changes made while reading, as predicates of "5 images ...": "lost their alpha channel".
    """

    values: np.ndarray
    stored_type: str
    spacing: tuple[float, float] | None = None
    class_name: str = ""
    remarks: tuple[str, ...] = ()
    aspect: float = 1.0
    mask: bool = False
    source: RawImage | None = None
    foreground: np.ndarray | None = None
    labels: np.ndarray | None = None
    place: int | None = None

    @property
    def pixel_aspect(self) -> float:
        """The height of a pixel divided by its width."""
        return self.aspect if self.spacing is None else self.spacing[0] / self.spacing[1]


@dataclasses.dataclass(frozen=True)
class Roles:
    """The origin of classes, patients and splits in words that hold no name; "" where there are none.

    Attributes:
        classes: of the classes, such as "the folders in data.root".
        patients: of the patients.
        split: of the splits that the data gives.
        doubt: what else they may be, and what to type then, in whole sentences; "" without doubt.
    """

    classes: str = ""
    patients: str = ""
    split: str = ""
    doubt: str = ""


@dataclasses.dataclass
class Scan:
    """The result of looking at names and headers, before any pixel is decoded.

    Attributes:
        records: in an order that depends on the data alone.
        class_names: in the order of the labels; empty: no labels, or those of the raw images, sorted.
        unit: of the values, "HU" or "stored value".
        modality: DICOM's code (CT, MR, CR ...); "" where it is not known.
        left_out: counts of files that are not read.
        damaged: counts of files that should have been read; data.on_error decides whether they end the run.
        paired: whether each raw image is a pair, source and target.
        masked: whether each raw image has a foreground.
        source_unit: of the sources' values, like ``unit``.
        source_modality: of the sources, like ``modality``.
        accounted: names of files that are no records and not lost: label volumes, files that an option excludes.
        mask_advice: the options that sort out masks beside images, for a message that ends with it.
        folder_level: of the folders that are classes, whose names may be shown: 1 for those in the root; 0: none.
        roles: the origin of classes, patients and splits.
    """

    records: Sequence[Record]
    class_names: tuple[str, ...] = ()
    unit: str = "stored value"
    modality: str = ""
    left_out: Counter[Reason] = dataclasses.field(default_factory=Counter)
    damaged: Counter[Reason] = dataclasses.field(default_factory=Counter)
    paired: bool = False
    masked: bool = False
    source_unit: str = "stored value"
    source_modality: str = ""
    accounted: frozenset[str] = frozenset()
    folder_level: int = 0
    mask_advice: str = ""
    roles: Roles = Roles()


class Reader(Protocol):
    """A reader of one format.

    It is pickled and sent to worker processes. The readers of this package are dataclasses: ``root`` and then, by
    keyword, the options ``data.reader.*``, which the yaml of the same name in conf/data describes.
    """

    tree: Tree

    def scan(self) -> Scan:
        """Look at names and headers, and sort out files that are not images.

        Raises:
            DataError: nothing fits the options; everything that is missing is named at once.
        """
        ...

    def read(self, record: Record) -> tuple[Sequence[RawImage], Counter[Reason]]:
        """Decode the images of one record. The result depends on the record alone.

        Returns:
            The images, of which each may be decoded when it is asked for, and counts of those that are left out.

        Raises:
            Unreadable: the file is damaged or ambiguous; nothing is guessed.
            InputError: something is missing for all files of this kind, such as a plugin.
        """
        ...

    def key(self) -> dict[str, Any]:
        """Return the options that the images depend on, as plain values for the key of the cache."""
        ...


def reader_options(reader: Any) -> dict[str, Any]:
    """Return the options of a reader that is a dataclass: all its fields but ``root``."""
    return {field.name: getattr(reader, field.name) for field in dataclasses.fields(reader) if field.name != "root"}
