"""The folders that hold a data set: which there are, and which of them no image is used of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from medsynth.data.tree import AROUND, HIDDEN, OUTSIDE, Tree


def wrapper(names: Iterable[str]) -> str:
    """Return the lone folders around all files, such as "set/v2/"; "" where there is none."""
    common: list[str] | None = None
    for name in names:
        parts = name.split("/")[:-1]
        common = parts if common is None else common
        equal = [one == other for one, other in zip(common, parts, strict=False)]
        common = common[: equal.index(False) if False in equal else len(equal)]
    return "".join(f"{part}/" for part in common or ())


def first_level(tree: Tree) -> int:
    """Return the level of the first folders that are several; 1: those in the root."""
    return 1 + wrapper([name for name in _below(tree) if "/" in name]).count("/")


def folders_at(tree: Tree, level: int) -> list[str]:
    """Return the folders of a level, sorted, by their paths; 1: those in the root. Some may hold nothing readable."""
    return sorted({"/".join(name.split("/")[:level]) for name in _below(tree) if name.count("/") >= level})


def lost_folders(tree: Tree, level: int, used: Collection[str]) -> list[int]:
    """Return positions in ``folders_at`` of the folders of which none of the ``used`` files is."""
    alive = {"/".join(name.split("/")[:level]) for name in used if name.count("/") >= level}
    return [number for number, folder in enumerate(folders_at(tree, level)) if folder not in alive]


def _below(tree: Tree) -> Iterator[str]:
    """Yield the names of all files, and of what is lost; a lost folder as a name that ends with a slash."""
    yield from tree.names
    for name, reason in tree.lost:
        if reason not in (AROUND, HIDDEN, OUTSIDE):
            yield name if "." in name.rpartition("/")[2] else f"{name}/"


def listed(names: Sequence[str], shown: int = 12) -> str:
    """Join the first names: a list of one folder per patient would fill the screen."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
