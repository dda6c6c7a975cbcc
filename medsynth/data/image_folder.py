"""Reader of images in a folder or zip archive: PNG, JPEG, TIFF or BMP, flat or with one subfolder per class."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medsynth.data.errors import NOT_AN_IMAGE_NAME, DataError, Reason
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.reading import RawImage, Record, Scan, reader_options
from medsynth.data.tree import Tree, open_tree
from medsynth.errors import InputError

EXAMPLE = "data=image_folder data.root=/path/to/images reads a folder, or a zip archive, of images."


@dataclasses.dataclass
class ImageFolder:
    """A reader of image files below ``root``; conf/data/image_folder.yaml describes its options.

    Images directly in ``root`` have no labels. Otherwise each subfolder is a class with all images at any depth below
    it, and the labels follow the sorted names.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    classes: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.tree: Tree = open_tree(self.root, example=EXAMPLE)

    def scan(self) -> Scan:
        """Sort the files into classes; see ``reading.Reader``.

        Raises:
            InputError: there is no image, both layouts are mixed, or one of ``classes`` is missing.
        """
        names = [name for name in self.tree.names if name.lower().endswith(ENDINGS)]
        root = self.tree.root
        if not names:
            raise DataError(
                f"data.root={root} holds no image: only files whose names end in {', '.join(ENDINGS)} are read."
            )
        left_out = +Counter({NOT_AN_IMAGE_NAME: len(self.tree.names) - len(names)})
        flat = sum("/" not in name for name in names)
        folders = sorted({name.split("/")[0] for name in names if "/" in name})
        if flat and folders:
            raise DataError(
                f"data.root={root} holds {flat} images beside the class folders {_listed(folders)}: "
                f"move those images into a class folder, or elsewhere."
            )
        chosen = self._chosen(folders)
        if flat:
            return Scan([Record(name) for name in names], left_out=left_out)
        records = [Record(name, class_name=name.split("/")[0]) for name in names if name.split("/")[0] in chosen]
        return Scan(records, class_names=tuple(chosen), left_out=left_out)

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Decode the one image of a file; see ``reading.Reader``."""
        return [decode(self.tree.read(record.name))], Counter()

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _chosen(self, folders: list[str]) -> list[str]:
        """Return the folders that ``classes`` names, or all."""
        asked = [self.classes] if isinstance(self.classes, str) else list(map(str, self.classes or ()))
        if asked and not folders:
            raise InputError(
                f"data.reader.classes needs one subfolder per class, but data.root={self.tree.root} has none."
            )
        missing = [name for name in asked if name not in folders]
        if missing:
            raise InputError(
                f"data.reader.classes names {', '.join(missing)}, but data.root={self.tree.root} has the folders "
                f"{_listed(folders)}."
            )
        return [name for name in folders if name in (asked or folders)]


def _listed(names: Sequence[str], shown: int = 12) -> str:
    """Join the first names: a list of one folder per patient would fill the screen."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
