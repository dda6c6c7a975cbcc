"""Which files of a folder are images, which class each belongs to, and which are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medsynth.contracts import InputError, counter_seed

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def find_images(root: str | None, classes: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Class name -> sorted paths, the names sorted; the one name "" where the images lie in ``root`` itself.

    Raises:
        InputError: ``root`` is no folder with images, mixes both layouts, or lacks one of ``classes``.
    """
    if not root:
        raise InputError("data.root is needed: data=image_folder data.root=/path/to/images")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"data.root={root} {state}: it names the folder with the images.")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    flat = [entry for entry in entries if _is_image(entry)]
    below = {entry.name: sorted(filter(_is_image, entry.rglob("*"))) for entry in entries if entry.is_dir()}
    below = {name: paths for name, paths in below.items() if paths}
    if not flat and not below:
        state = "holds no image" if entries else "is empty"
        raise InputError(f"data.root={root} {state}: files ending in {', '.join(ENDINGS)} are read.")
    if flat and below:
        raise InputError(
            f"data.root={root} holds {len(flat)} images beside the class folders {', '.join(below)}: "
            f"move those images into a class folder, or away."
        )
    if flat and classes:
        raise InputError(f"data.classes needs one subfolder per class, but data.root={root} has none: leave it out.")
    missing = [name for name in classes if name not in below]
    if missing:
        raise InputError(f"data.classes names {', '.join(missing)}, but data.root={root} has {', '.join(below)}.")
    return {"": flat} if flat else {name: below[name] for name in sorted(below) if name in (classes or below)}


def split(
    files: dict[str, list[Path]], val_fraction: float, *, seed: int, root: Path
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """(training, validation) pairs of path and label, stratified by class; the validation images mix the classes.

    Each file draws a number from its path below ``root``; the lowest of a class are held out.
    """

    def draw(path: Path) -> int:
        return counter_seed("split", seed, path.relative_to(root).as_posix())

    train: list[tuple[Path, int]] = []
    val: list[tuple[Path, int]] = []
    counts = _held_out([len(paths) for paths in files.values()], val_fraction)
    for label, (paths, count) in enumerate(zip(files.values(), counts, strict=True)):
        held_out = set(sorted(paths, key=draw)[:count])
        val += [(path, label) for path in held_out]
        train += [(path, label) for path in paths if path not in held_out]
    return train, sorted(val, key=lambda pair: draw(pair[0]))


def _held_out(sizes: list[int], fraction: float) -> list[int]:
    """Validation images of each class: its fraction, at least 1 where one is left to train, and 2 in all."""
    counts = [min(size - 1, max(1, round(size * fraction))) for size in sizes]
    while sum(counts) < 2:
        counts[max(range(len(sizes)), key=lambda label: sizes[label] - counts[label])] += 1
    return counts


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
