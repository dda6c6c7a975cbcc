"""Reader of image pairs for translation: subfolders with the same file names, in a folder or zip archive."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from medsynth.data.errors import DataError, Reason, ReasonKind, check_choice
from medsynth.data.folders import wrapper
from medsynth.data.image_file import ENDINGS
from medsynth.data.layout import AUTO, find_layout
from medsynth.data.other_formats import not_read
from medsynth.data.pair_files import read_pair
from medsynth.data.reading import RawImage, Record, Scan, reader_options
from medsynth.data.tree import Tree, open_tree
from medsynth.errors import InputError

IN_NEITHER_FOLDER = Reason(ReasonKind.NOT_SELECTED, "images in neither data.reader.source nor data.reader.target")
NO_TARGET = Reason(ReasonKind.UNMATCHED, "source images without a target")
NO_MASK = Reason(ReasonKind.UNMATCHED, "pairs without a mask")
NO_SOURCE = Reason(ReasonKind.UNMATCHED, "target images without a source")


@dataclasses.dataclass
class PairedFolder:
    """A reader of aligned pairs of PNG, JPEG, TIFF or BMP images; conf/data/paired_folder.yaml describes its options.

    Two images are a pair if their names below ``source`` and ``target`` differ in nothing but the ending; so does that
    of their mask below ``mask``, whose pixels above 0 are the foreground.

    Raises:
        InputError: an option has an impossible value, or ``root`` cannot be opened.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    source: str = "source"
    target: str = "target"
    mask: str | None = None
    unmatched: str = "raise"
    patient_level: int | str | None = AUTO
    split_level: int | str | None = AUTO

    def __post_init__(self) -> None:
        check_choice("data.reader.unmatched", self.unmatched, ("raise", "skip"))
        self.source, self.target = self.source.strip("/"), self.target.strip("/")
        self.mask = None if self.mask is None else self.mask.strip("/")
        named = {"source": self.source, "target": self.target, "mask": self.mask}
        for one, other in itertools.combinations(named, 2):
            if named[one] == named[other]:
                raise InputError(f"data.reader.{one} and data.reader.{other} are both {named[one]}: name two folders.")
        self.tree: Tree = open_tree(self.root, example="data=paired_folder data.root=/path/to/pairs")
        self._wrapper = wrapper(name for name in self.tree.names if "/" in name)

    def scan(self) -> Scan:
        """Match the files of both folders, one record for each pair.

        Raises:
            DataError: a folder is missing or empty, or images have no partner.
        """
        names = [name for name in self.tree.names if name.lower().endswith(ENDINGS)]
        sources, targets = self._below("source", self.source, names), self._below("target", self.target, names)
        masks = {} if self.mask is None else self._below("mask", self.mask, names)
        matched = sorted(sources.keys() & targets.keys())
        alone = len(sources) - len(matched), len(targets) - len(matched)
        if not matched or (any(alone) and self.unmatched == "raise"):
            raise DataError(
                f"data.root={self.tree.root} holds {alone[0]} images in {self.source} and {alone[1]} in {self.target} "
                f"without a partner of the same name, and {len(matched)} pairs: complete the pairs, or leave those "
                f"images out with data.reader.unmatched=skip."
            )
        left_out = not_read(set(self.tree.names) - set(names))
        left_out[IN_NEITHER_FOLDER] = len(names) - len(sources) - len(targets) - len(masks)
        left_out[NO_TARGET], left_out[NO_SOURCE] = alone
        if self.mask is not None:
            matched = self._masked(matched, masks, left_out)
        layout = find_layout(
            matched, root=self.tree.root, patient_level=self.patient_level, split_level=self.split_level
        )
        records = [
            Record(
                sources[key],
                partner=targets[key],
                mask=masks.get(key, ""),
                patient=layout.patient(key),
                split=layout.split(key),
            )
            for key in matched
        ]
        others = frozenset(names) - set(sources.values()) - set(targets.values())
        return Scan(records, left_out=+left_out, paired=True, masked=bool(masks), accounted=others, roles=layout.roles)

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Decode one pair; see ``reading.Reader``.

        Raises:
            Unreadable: one of the two or its mask is damaged, or they differ in size.
        """
        return [read_pair(self.tree, record)], Counter()

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _masked(self, matched: list[str], masks: dict[str, str], left_out: Counter[Reason]) -> list[str]:
        """Return the pairs that have a mask.

        Raises:
            DataError: some have none.
        """
        kept = [key for key in matched if key in masks]
        missing = len(matched) - len(kept)
        if not kept or (missing and self.unmatched == "raise"):
            raise DataError(
                f"data.root={self.tree.root} holds {missing} pairs without a mask of the same name in {self.mask}, and "
                f"{len(kept)} with one: complete the masks, leave those pairs out with data.reader.unmatched=skip, or "
                f"use no masks with data.reader.mask=null."
            )
        left_out[NO_MASK] = missing
        return kept

    def _below(self, option: str, folder: str, names: list[str]) -> dict[str, str]:
        """Return the files below a folder: name below it without the ending -> name."""
        inside = [name for name in names if name.startswith(folder + "/")]
        if not inside:  # below the folders around both
            folder = self._wrapper + folder
            inside = [name for name in names if name.startswith(folder + "/")]
        if not inside:
            typed = folder.removeprefix(self._wrapper)
            raise DataError(
                f"data.reader.{option}={typed} is not a folder with images ({', '.join(ENDINGS)}) in "
                f"data.root={self.tree.root}: name the folders by data.reader.source and data.reader.target."
            )
        keys = {str(PurePosixPath(name[len(folder) + 1 :]).with_suffix("")): name for name in inside}
        if len(keys) < len(inside):
            raise DataError(
                f"data.reader.{option}={folder} holds {len(inside) - len(keys)} images whose names differ from others' "
                f"only in the ending: keep one of each."
            )
        return keys
