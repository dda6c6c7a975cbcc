"""What a reader of image files delivers. Each format has one: image_folder, dicom, nifti, csv, medmnist, ...

What readers know may identify patients. It stays in this process: names of files and patients are for the source
(``files.ImageFiles``), which shows neither unless data.show_paths=true and keeps patients as salted hashes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from medsynth.data.tree import Tree
from medsynth.data.tree import Unreadable as Unreadable

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Item:
    """What is read at a time: a file of one or of several pictures, such as a volume.

    Attributes:
        name: of the file in the reader's tree.
        part: where one file makes several items (arrays of images), the number of this one.
        class_name: "" where there are no labels, or where the picture knows.
        patient: as it is written in the data; "" where it is not known.
        split: "train", "val" or "test" where the data says so, else "".
        partner: of a pair: the name of the file that it is to be translated into.
    """

    name: str
    part: int = 0
    class_name: str = ""
    patient: str = ""
    split: str = ""
    partner: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One two-dimensional image as it was measured.

    Attributes:
        values: float32 ``(C, H, W)``, C 1 or 3, finite, in ``Found.unit``; of a pair ``(2 C, H, W)``, target last.
        stored_type: what the file holds: "8-bit", "16-bit", "signed 16-bit", "32-bit integer", "floating-point" ...
        spacing: millimetres from row to row and from column to column; None: not known.
        class_name: overrides the item's, where the label is in the pixels.
        remarks: what reading changed, in words that count: "lost its alpha channel".
    """

    values: np.ndarray
    stored_type: str
    spacing: tuple[float, float] | None = None
    class_name: str = ""
    remarks: tuple[str, ...] = ()


@dataclasses.dataclass
class Found:
    """What there is to read, before anything is decoded.

    Attributes:
        items: in an order that depends on the data alone.
        class_names: in the order of the labels; empty: none, or those of the pictures, sorted.
        unit: of the values, "HU" or "stored value".
        modality: DICOM's code (CT, MR, CR ...), "" where it is not known.
        left_out: reason -> files that are not read, "no image (DICOMDIR)": 1.
        damaged: reason -> files that should have been read: they stop the run, or are left out, by data.on_error.
        images_per_picture: 2 where a picture is a pair of images, else 1.
    """

    items: Sequence[Item]
    class_names: tuple[str, ...] = ()
    unit: str = "stored value"
    modality: str = ""
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    damaged: Counter[str] = dataclasses.field(default_factory=Counter)
    images_per_picture: int = 1


class Reader(Protocol):
    """Of one format. It is pickled and sent to worker processes; ``read`` depends on nothing but the item."""

    tree: Tree

    def find(self) -> Found:
        """Look at names and headers, and sort out what is no image.

        Raises:
            InputError: nothing fits the options; all of what is missing is named at once.
        """

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The pictures of one item and what of it is left out, by reason ("slices without content": 12).

        Raises:
            Unreadable: it is damaged or cannot be understood; nothing is guessed.
            InputError: something is missing for all files of its kind, such as a plugin.
        """

    def key(self) -> dict[str, object]:
        """The options that the pictures depend on, for the cache's key: plain values."""
