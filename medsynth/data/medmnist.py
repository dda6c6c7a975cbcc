"""MedMNIST: arrays of small images with labels and the official splits (J. Yang et al. 2023, Scientific Data 10:41)."""

from __future__ import annotations

import math
import re
import tempfile
import zipfile
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.data.npz import NpzArray
from medsynth.data.reading import SPLITS, Found, Item, Picture, Unreadable
from medsynth.data.tree import open_tree
from medsynth.errors import InputError, extra_command

SIZES = (28, 64, 128, 224)
CHUNK = 256  # images of an item, as far as they have no more than _CHUNK_VALUES
_CHUNK_VALUES = 2**24
_EXAMPLE = "data=medmnist data.root=/path/to/pneumoniamnist.npz"


class MedMnist:
    """A reader of a MedMNIST file of 2D images with one label each; see medsynth.data.reading.

    An item is a chunk of images of one split. The splits are the file's own.

    Args:
        root: the .npz file, or the folder that holds the one of ``flag`` and ``size``.
        flag: the data set, such as pneumoniamnist, whose classes get their names if the package medmnist is installed.
            None: the one that the file is called after; the classes of files of other names are numbers.
        size: height and width in pixels, 28, 64, 128 or 224, of the file in the folder.
        download: fetch that file into the folder unless it is there; this needs the package medmnist.

    Raises:
        InputError: there is no such file, it is damaged or of other data, or it cannot be downloaded.
    """

    def __init__(self, root: str | None, *, flag: str | None = None, size: int = 28, download: bool = False) -> None:
        if size not in SIZES:
            raise InputError(f"data.reader.size={size} is not possible: {', '.join(map(str, SIZES))}.")
        if not root:
            raise InputError(f"data.root is needed: {_EXAMPLE}")
        path = Path(root).expanduser()
        if path.suffix != ".npz":
            if flag is None:
                raise InputError(
                    f"data.root={root} is no .npz file: {_EXAMPLE}, or a folder with data.reader.flag=pneumoniamnist."
                )
            path = path / f"{flag}{'' if size == 28 else f'_{size}'}.npz"
            if download and not path.exists():
                _download(path, flag, size)
        if path.exists() and not zipfile.is_zipfile(path):
            raise InputError(f"data.root={path} is no .npz file, or a damaged one: download it again.")
        self._path = path
        self._information = _information(flag, path)
        self.tree = open_tree(str(path), example=f"{_EXAMPLE}, or data.reader.download=true")

    def find(self) -> Found:
        """The chunks of all splits; images are not decoded.

        Raises:
            InputError: the file is damaged, or of another kind.
        """
        items = [
            Item(f"{split}_images.npy", part=part, split=split)
            for split, (images, _) in self._arrays.items()
            for part in range(math.ceil(len(images) / _chunk(images)))
        ]
        return Found(items, class_names=tuple(self._names.values()))

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The images of one chunk, float32 ``(1 or 3, H, W)`` from 0 to 255.

        Raises:
            Unreadable: the array is damaged.
        """
        images, labels = self._arrays[item.split]
        start = item.part * _chunk(images)
        values = images.rows(start, start + _chunk(images)).astype(np.float32)
        values = values[:, None] if values.ndim == 3 else np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        pairs = zip(values, labels[start : start + len(values)], strict=True)
        return [Picture(image, "8-bit", class_name=self._names[int(label)]) for image, label in pairs], Counter()

    def key(self) -> dict[str, object]:
        """The names of the classes, which depend on ``flag``."""
        return {"names": {str(label): name for label, name in self._names.items()}}

    @cached_property
    def _arrays(self) -> dict[str, tuple[NpzArray, np.ndarray]]:
        """Images, not read yet, and labels ``(N,)`` of each split in the file."""
        splits = [split for split in SPLITS if f"{split}_images.npy" in self.tree.names]
        # Names have no checksum: an array that is called otherwise may be one of these with a damaged name.
        if "train" not in splits or sorted(_names_of(splits)) != list(self.tree.names):
            raise InputError(
                f"data.root={self.tree.root} is no file of MedMNIST: train_images and train_labels, as a rule the same "
                f"of val and test, and nothing else."
            )
        try:
            return {split: self._split(split) for split in splits}
        except Unreadable as error:
            raise InputError(f"data.root={self.tree.root} cannot be read ({error}): download it again.") from error

    def _split(self, split: str) -> tuple[NpzArray, np.ndarray]:
        images, labels = (NpzArray(self._path, f"{split}_{what}.npy") for what in ("images", "labels"))
        root = self.tree.root
        if len(images.shape) not in (3, 4) or (len(images.shape) == 4 and images.shape[3] != 3):
            raise InputError(
                f"data.root={root} does not hold 2D images, (N, H, W) or (N, H, W, 3): 3D sets are not read."
            )
        if images.dtype != np.uint8 or 0 in images.shape:
            raise InputError(f"data.root={root} does not hold images of 8 bits, as MedMNIST's files do.")
        if math.prod(labels.shape[1:]) != 1 or labels.dtype.kind not in "iu":
            raise InputError(f"data.root={root} has several labels per image: choose a set with one, (N, 1) integers.")
        if len(labels) != len(images):
            raise InputError(
                f"data.root={root} has {len(images)} images and {len(labels)} labels in {split}: they differ."
            )
        return images, labels.rows(0, len(labels)).ravel()

    @cached_property
    def _names(self) -> dict[int, str]:
        """Label -> name of the class, of those that occur."""
        present = sorted({int(label) for _, labels in self._arrays.values() for label in np.unique(labels)})
        known = self._information.get("label", {})
        if known and any(str(label) not in known for label in present):
            raise InputError(
                f"data.root={self.tree.root} has labels that MedMNIST's set of this name has not: "
                f"rename the file, or correct data.reader.flag."
            )
        return {label: known.get(str(label), str(label)) for label in present}


def _names_of(splits: list[str]) -> list[str]:
    return [f"{split}_{what}.npy" for split in splits for what in ("images", "labels")]


def _chunk(images: NpzArray) -> int:
    """Images of an item."""
    return max(1, min(CHUNK, _CHUNK_VALUES // math.prod(images.shape[1:])))


def _information(flag: str | None, path: Path) -> dict[str, Any]:
    """What the package medmnist says of the data set; nothing where it is not installed or does not know the set.

    Raises:
        InputError: there is no such ``flag``, or the set is not one of 2D images with one label each.
    """
    name = flag or re.sub(r"_\d+$", "", path.stem)
    if flag is None and not re.fullmatch(r"[a-z]+mnist(3d)?", name):
        return {}
    try:
        from medmnist import INFO  # seconds, which nobody else shall wait for
    except ImportError:
        return {}
    if name.endswith("3d") or INFO.get(name, {}).get("task", "").startswith("multi-label"):
        raise InputError(f"{name} cannot be used: choose a set of MedMNIST of 2D images with one label each.")
    if flag is not None and flag not in INFO:
        usable = (known for known, facts in INFO.items() if not (known.endswith("3d") or "label," in facts["task"]))
        raise InputError(f"data.reader.flag={flag} is no set of MedMNIST: {', '.join(usable)}.")
    return INFO.get(name, {})


def _download(path: Path, flag: str, size: int) -> None:
    """Make the file ``path``, whole or not at all; MedMNIST's MD5 is compared.

    Raises:
        InputError: the package is missing, there is no such set, or the file cannot be downloaded or written.
    """
    try:
        import medmnist  # noqa: F401 for the message alone: _information goes on without it
    except ImportError:
        raise InputError(
            f"data.reader.download=true needs the package medmnist: {extra_command('medmnist')}."
        ) from None
    from torchvision.datasets.utils import download_url

    information, ending = _information(flag, path), "" if size == 28 else f"_{size}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as temporary:
            download_url(information[f"url{ending}"], temporary, path.name, information[f"MD5{ending}"])
            (Path(temporary) / path.name).replace(path)
    except Exception as error:  # URLError, HTTPError, RuntimeError (the checksum), OSError of the disk ...
        raise InputError(
            f"data.reader.download=true could not fetch {path.name} ({type(error).__name__}): check network and disk, "
            f"or download it elsewhere and name it, as a path always works: data.root=/path/to/{path.name}."
        ) from error
