"""Reader of images in a folder or zip archive: flat or in folders of classes, patients and splits."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medsynth.data.errors import DataError, Reason, ReasonKind, check_choice
from medsynth.data.folders import listed
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.layout import AUTO, Layout, doubt_about_names, find_layout
from medsynth.data.masks import masks_among
from medsynth.data.other_formats import not_read
from medsynth.data.reading import RawImage, Record, Scan, reader_options
from medsynth.data.table import natural
from medsynth.data.tree import Tree, open_tree
from medsynth.errors import InputError

EXAMPLE = "data=image_folder data.root=/path/to/images reads a folder, or a zip archive, of images."
MASK = Reason(ReasonKind.NOT_SELECTED, "masks, by their names (data.reader.masks)")
OTHER_CLASS = Reason(ReasonKind.NOT_SELECTED, "another class (data.reader.classes)")


@dataclasses.dataclass
class ImageFolder:
    """A reader of image files below ``root``; conf/data/image_folder.yaml describes its options.

    Folders around all images have no role. The others are a given split, classes, or patients (``layout``); images of a
    class may be at any depth below it, and the labels follow the class names in natural order.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    classes: str | Sequence[str] | None = None
    masks: str = "raise"
    class_level: int | str | None = AUTO
    patient_level: int | str | None = AUTO
    split_level: int | str | None = AUTO

    def __post_init__(self) -> None:
        check_choice("data.reader.masks", self.masks, ("raise", "skip", "keep"))
        self.tree: Tree = open_tree(self.root, example=EXAMPLE)

    def scan(self) -> Scan:
        """Sort the files into splits, classes and patients; see ``reading.Reader``.

        Raises:
            InputError: there is no image, images lie beside the class folders, or one of ``classes`` is missing.
        """
        names = [name for name in self.tree.names if name.lower().endswith(ENDINGS)]
        left_out = not_read(name for name in self.tree.names if not name.lower().endswith(ENDINGS))
        if not names:
            raise DataError(
                f"data.root={self.tree.root} holds no image: only files whose names end in {', '.join(ENDINGS)} are "
                f"read ({'; '.join(f'{reason}: {count}' for reason, count in left_out.most_common())}). Give a folder "
                f"with such files, or read another format by data=."
            )
        masks = self._masks(names)
        left_out[MASK] += len(masks)
        names = [name for name in names if name not in masks]
        asked = [self.classes] if isinstance(self.classes, str) else list(map(str, self.classes or ()))
        layout = find_layout(
            names,
            root=self.tree.root,
            split_level=self.split_level,
            class_level=self.class_level,
            patient_level=self.patient_level,
            classes=asked,
        )
        chosen = self._chosen(asked, layout, names)
        records = [
            Record(name, class_name=layout.class_name(name), patient=layout.patient(name), split=layout.split(name))
            for name in names
            if not chosen or layout.class_name(name) in chosen
        ]
        others = frozenset(names) - {record.name for record in records}
        left_out[OTHER_CLASS] += len(others)
        known = layout.subjects or layout.patient_level
        doubts = [layout.doubt, "" if known else doubt_about_names([record.name for record in records])]
        return Scan(
            records,
            class_names=tuple(chosen),
            left_out=+left_out,
            accounted=others | masks,
            folder_level=layout.class_level,
            roles=dataclasses.replace(layout.roles, doubt=" ".join(filter(None, doubts))),
        )

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Decode the one image of a file; see ``reading.Reader``."""
        return [decode(self.tree.read(record.name))], Counter()

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _masks(self, names: list[str]) -> frozenset[str]:
        """Return the masks beside images, which are left out."""
        masks = frozenset(masks_among(names) if self.masks != "keep" else ())
        if masks and self.masks == "raise":
            raise DataError(
                f"data.root={self.tree.root} holds {len(masks)} images that name themselves masks (a folder masks, "
                f"_mask, _seg) beside {len(names) - len(masks)} others: leave them out with data.reader.masks=skip, or "
                f"read them as images with data.reader.masks=keep."
            )
        return masks

    def _chosen(self, asked: list[str], layout: Layout, names: list[str]) -> list[str]:
        """Return the classes that ``classes`` names, or all, in natural order."""
        without = sum(not layout.class_name(name) for name in names) if layout.class_level else 0
        folders = sorted({layout.class_name(name) for name in names} - {""}, key=natural)
        if folders and without:
            raise DataError(
                f"data.root={self.tree.root} holds {without} images beside the class folders {listed(folders)}: move "
                f"those images into a class folder, or elsewhere, or type data.reader.class_level=null to read all "
                f"images without classes."
            )
        if asked and not folders:
            raise InputError(
                f"data.reader.classes needs a folder for each class, but data.root={self.tree.root} has none: move the "
                f"images of each class into one with its name, or leave data.reader.classes out."
            )
        missing = [name for name in asked if name not in folders]
        if missing:
            raise InputError(
                f"data.reader.classes names {', '.join(missing)}, but data.root={self.tree.root} has the folders "
                f"{listed(folders)}: choose among these, or type another data.reader.class_level=."
            )
        return [name for name in folders if name in (asked or folders)]
