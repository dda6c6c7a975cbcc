"""Pairs of images, for translation: two folders with the same file names, in one folder or zip archive."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from medsynth.contracts import InputError
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.reading import Found, Item, Picture, Unreadable
from medsynth.data.tree import open_tree


class PairedFolder:
    """A reader of aligned pairs of PNG, JPEG, TIFF or BMP images; see medsynth.data.reading.

    Two images are a pair where their names below ``source`` and ``target`` are the same but for the ending.

    Args:
        root: the folder or zip archive.
        source: the subfolder of the images to translate.
        target: the subfolder of what they become.
        unmatched: ``raise`` or ``skip``, for images without a partner.

    Raises:
        InputError: an option has no such value, or ``root`` cannot be opened.
    """

    def __init__(
        self, root: str | None, *, source: str = "source", target: str = "target", unmatched: str = "raise"
    ) -> None:
        if unmatched not in ("raise", "skip"):
            raise InputError(f"data.reader.unmatched={unmatched} is not possible: raise or skip.")
        self.source, self.target = (folder.strip("/") for folder in (source, target))
        if self.source == self.target:
            raise InputError(f"data.reader.source and data.reader.target are both {source}: they are two folders.")
        self.unmatched = unmatched
        self.tree = open_tree(root, example="data=paired_folder data.root=/path/to/pairs")

    def find(self) -> Found:
        """One item for each pair.

        Raises:
            InputError: a folder is missing or empty, or images have no partner.
        """
        names = [name for name in self.tree.names if name.lower().endswith(ENDINGS)]
        sources, targets = self._below("source", self.source, names), self._below("target", self.target, names)
        matched = sorted(sources.keys() & targets.keys())
        alone = len(sources) - len(matched), len(targets) - len(matched)
        if not matched or (any(alone) and self.unmatched == "raise"):
            raise InputError(
                f"data.root={self.tree.root} holds {alone[0]} images in {self.source} and {alone[1]} in {self.target} "
                f"without a partner of the same name, and {len(matched)} pairs: complete them, or leave those out by "
                f"data.reader.unmatched=skip."
            )
        left_out = {
            "no image (by the ending of its name)": len(self.tree.names) - len(names),
            "image in neither folder of the pairs": len(names) - len(sources) - len(targets),
            "source without a target": alone[0],
            "target without a source": alone[1],
        }
        items = [Item(sources[key], partner=targets[key]) for key in matched]
        return Found(items, left_out=+Counter(left_out), images_per_picture=2)

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The one pair, float32 ``(2 C, H, W)``, the source first; gray is repeated where its partner is in color.

        Raises:
            Unreadable: one of the two is damaged, or they differ in size or stored type.
        """
        pair = [decode(self.tree.read(name)) for name in (item.name, item.partner)]
        if len({picture.values.shape[1:] for picture in pair}) > 1:
            raise Unreadable("the two images of the pair have different sizes")
        if len({picture.stored_type for picture in pair}) > 1:
            raise Unreadable("the two images of the pair have different stored types")
        channels = max(len(picture.values) for picture in pair)
        values = [np.broadcast_to(image.values, (channels, *image.values.shape[1:])) for image in pair]
        remarks = tuple(dict.fromkeys(remark for picture in pair for remark in picture.remarks))
        return [Picture(np.concatenate(values), pair[0].stored_type, pair[0].spacing, remarks=remarks)], Counter()

    def key(self) -> dict[str, object]:
        """All options."""
        return {"source": self.source, "target": self.target, "unmatched": self.unmatched}

    def _below(self, option: str, folder: str, names: list[str]) -> dict[str, str]:
        """Name below the folder without its ending -> name."""
        inside = [name for name in names if name.startswith(folder + "/")]
        if not inside:
            raise InputError(
                f"data.reader.{option}={folder} is no folder with images ({', '.join(ENDINGS)}) in "
                f"data.root={self.tree.root}: name the folders by data.reader.source and data.reader.target."
            )
        keys = {str(PurePosixPath(name[len(folder) + 1 :]).with_suffix("")): name for name in inside}
        if len(keys) < len(inside):
            raise InputError(
                f"data.reader.{option}={folder} holds {len(inside) - len(keys)} images whose names differ from others' "
                f"in the ending alone: keep one of each."
            )
        return keys
