"""Images in a folder or a zip archive: PNG, JPEG, TIFF or BMP, flat or with one subfolder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medsynth.contracts import InputError
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.reading import Found, Item, Picture
from medsynth.data.tree import open_tree

EXAMPLE = "data=image_folder data.root=/path/to/images reads a folder, or a zip archive, of images."


class ImageFolder:
    """A reader of images below ``root``.

    Images directly in it have no labels; or else each subfolder is a class, with all images at any depth below it, and
    the labels follow the sorted names.

    Args:
        root: the folder or zip archive.
        classes: names of the subfolders to use; None: all.
    """

    def __init__(self, root: str | None, *, classes: Sequence[str] | None = None) -> None:
        self.tree = open_tree(root, example=EXAMPLE)
        self.classes = (classes,) if isinstance(classes, str) else tuple(map(str, classes or ()))

    def find(self) -> Found:
        """See ``reading.Reader``.

        Raises:
            InputError: no image there, both layouts mixed, or one of ``classes`` is missing.
        """
        names = [name for name in self.tree.names if name.lower().endswith(ENDINGS)]
        others = [name for name in self.tree.names if not name.lower().endswith(ENDINGS)]
        root = self.tree.root
        if not names:
            raise InputError(f"data.root={root} holds no image: files ending in {', '.join(ENDINGS)} are read.")
        flat = sum("/" not in name for name in names)
        folders = sorted({name.split("/")[0] for name in names if "/" in name})
        if flat and folders:
            raise InputError(
                f"data.root={root} holds {flat} images beside the class folders {_listed(folders)}: "
                f"move those images into a class folder, or away."
            )
        if flat and self.classes:
            raise InputError(f"data.reader.classes needs one subfolder per class, but data.root={root} has none.")
        missing = [name for name in self.classes if name not in folders]
        if missing:
            raise InputError(
                f"data.reader.classes names {', '.join(missing)}, but data.root={root} has {_listed(folders)}."
            )
        left_out = Counter({"no image (by the ending of its name)": len(others)} if others else {})
        if flat:
            return Found([Item(name) for name in names], left_out=left_out)
        chosen = [name for name in folders if name in (self.classes or folders)]
        items = [Item(name, class_name=name.split("/")[0]) for name in names if name.split("/")[0] in chosen]
        return Found(items, class_names=tuple(chosen), left_out=left_out)

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The one picture of a file; see ``reading.Reader``."""
        return [decode(self.tree.read(item.name))], Counter()

    def key(self) -> dict[str, object]:
        """See ``reading.Reader``."""
        return {"classes": self.classes}


def _listed(names: Sequence[str], shown: int = 12) -> str:
    """The names, or the first of them: a folder for each patient would fill the screen."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
