"""Reader of MedMNIST: arrays of small labeled images with their splits (J. Yang et al. 2023, Scientific Data 10:41)."""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
import zipfile
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.data.errors import DataError, Reason, Unreadable
from medsynth.data.npz import NpzArray
from medsynth.data.reading import SPLITS, RawImage, Record, Roles, Scan
from medsynth.data.tree import Tree, open_tree
from medsynth.errors import InputError, extra_command

SIZES = (28, 64, 128, 224)
CHUNK = 256  # images of a record, unless they have more than _CHUNK_VALUES values
_CHUNK_VALUES = 2**24
MULTI_LABEL = "multi-label, binary-class"  # a task as the package medmnist names it
_EXAMPLE = "data=medmnist data.root=/path/to/pneumoniamnist.npz"


@dataclasses.dataclass
class MedMnist:
    """A reader of a MedMNIST file of 2D images with one label each; conf/data/medmnist.yaml describes its options.

    A record is a chunk of images of one split; the splits are the file's own. Classes have names if the package
    medmnist is installed and knows the set, otherwise they are numbers.

    Raises:
        InputError: the file is missing, damaged or of another kind, or cannot be downloaded.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    flag: str | None = None
    size: int = 28
    download: bool = False

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError(f"data.reader.size={self.size} is not possible: choose {', '.join(map(str, SIZES))}.")
        if not self.root:
            raise InputError(f"data.root is needed: {_EXAMPLE}")
        self._path = self._file(Path(self.root).expanduser())
        if self._path.exists() and not zipfile.is_zipfile(self._path):
            raise DataError(f"data.root={self._path} is not an .npz file, or a damaged one: download it again.")
        self._information = _information(self.flag, self._path)
        self.tree: Tree = open_tree(str(self._path), example=f"{_EXAMPLE}, or data.reader.download=true")

    def scan(self) -> Scan:
        """List the chunks of all splits; images are not decoded.

        Raises:
            DataError: the file is damaged or of another kind.
        """
        records = [
            Record(f"{split}_images.npy", part=part, split=split)
            for split, (images, _) in self._arrays.items()
            for part in range(math.ceil(len(images) / _chunk_size(images)))
        ]
        roles = Roles("the labels in the file", "", "the file's own")
        return Scan(records, class_names=tuple(self._names.values()), roles=roles)

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Read the images of one chunk, float32 ``(1 or 3, H, W)`` from 0 to 255.

        Raises:
            Unreadable: the array is damaged.
        """
        images, labels = self._arrays[record.split]
        start = record.part * _chunk_size(images)
        values = images.rows(start, start + _chunk_size(images)).astype(np.float32)
        values = values[:, None] if values.ndim == 3 else np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        labeled = zip(values, labels[start : start + len(values)], strict=True)
        return [RawImage(image, "8-bit", class_name=self._names[int(label)]) for image, label in labeled], Counter()

    def key(self) -> dict[str, Any]:
        """Return the names of the classes, which depend on ``flag``."""
        return {"names": {str(label): name for label, name in self._names.items()}}

    def _file(self, path: Path) -> Path:
        """Return the .npz file at or in ``path``, downloaded if asked for."""
        if path.suffix == ".npz":
            return path
        if self.flag is None:
            raise InputError(
                f"data.root={self.root} is not an .npz file: {_EXAMPLE}, or a folder with "
                f"data.reader.flag=pneumoniamnist."
            )
        path = path / f"{self.flag}{'' if self.size == 28 else f'_{self.size}'}.npz"
        if self.download and not path.exists():
            _download(path, self.flag, self.size)
        return path

    @cached_property
    def _arrays(self) -> dict[str, tuple[NpzArray, np.ndarray]]:
        """Images, which are not read yet, and labels ``(N,)`` of each split in the file."""
        splits = [split for split in SPLITS if f"{split}_images.npy" in self.tree.names]
        # Names have no checksum: an array with an unknown name may be one of these with a damaged name.
        if "train" not in splits or sorted(_names_of(splits)) != list(self.tree.names):
            raise DataError(
                f"data.root={self.tree.root} is not a file of MedMNIST, which holds train_images and train_labels, "
                f"usually the same of val and test, and nothing else: name one, or read images by data=image_folder."
            )
        try:
            return {split: self._split(split) for split in splits}
        except Unreadable as error:
            raise DataError(f"data.root={self.tree.root} cannot be read ({error}): download it again.") from error

    def _split(self, split: str) -> tuple[NpzArray, np.ndarray]:
        images, labels = (NpzArray(self._path, f"{split}_{kind}.npy") for kind in ("images", "labels"))
        root = self.tree.root
        if len(images.shape) not in (3, 4) or (len(images.shape) == 4 and images.shape[3] != 3):
            raise DataError(
                f"data.root={root} does not hold 2D images, (N, H, W) or (N, H, W, 3): 3D sets are not supported, "
                "choose one of 2D images."
            )
        if images.dtype != np.uint8 or 0 in images.shape:
            raise DataError(
                f"data.root={root} does not hold images of 8 bits, as MedMNIST's files do: save them as PNG, which "
                "data=image_folder reads."
            )
        if math.prod(labels.shape[1:]) != 1 or labels.dtype.kind not in "iu":
            raise DataError(f"data.root={root} has several labels per image: choose a set with one, (N, 1) integers.")
        if len(labels) != len(images):
            raise DataError(
                f"data.root={root} has {len(images)} images and {len(labels)} labels in {split}, which must be "
                "equal: download it again."
            )
        return images, labels.rows(0, len(labels)).ravel()

    @cached_property
    def _names(self) -> dict[int, str]:
        """Label -> name of the class, for the labels that occur."""
        present = sorted({int(label) for _, labels in self._arrays.values() for label in np.unique(labels)})
        known = self._information.get("label", {})
        if known and any(str(label) not in known for label in present):
            raise DataError(
                f"data.root={self.tree.root} has labels that MedMNIST's set of this name does not have: "
                f"rename the file, or correct data.reader.flag."
            )
        return {label: known.get(str(label), str(label)) for label in present}


def _names_of(splits: list[str]) -> list[str]:
    return [f"{split}_{kind}.npy" for split in splits for kind in ("images", "labels")]


def _chunk_size(images: NpzArray) -> int:
    """Return the number of images in a record."""
    return max(1, min(CHUNK, _CHUNK_VALUES // math.prod(images.shape[1:])))


def _information(flag: str | None, path: Path) -> dict[str, Any]:
    """Return what the package medmnist knows about the data set; nothing if it is not installed or knows no such set.

    Raises:
        InputError: the set ``flag`` does not exist, or does not hold 2D images with one label each.
    """
    name = flag or re.sub(r"_\d+$", "", path.stem)
    if flag is None and not re.fullmatch(r"[a-z]+mnist(3d)?", name):
        return {}
    try:
        from medmnist import INFO  # imported here since it takes seconds
    except ImportError:
        return {}
    usable = [known for known, set_information in INFO.items() if _usable(known, set_information)]
    if name.endswith("3d") or (name in INFO and name not in usable):
        raise InputError(f"{name} cannot be used: choose a MedMNIST set of 2D images with one label each.")
    if flag is not None and flag not in INFO:
        raise InputError(f"data.reader.flag={flag} is not a MedMNIST set: choose {', '.join(usable)}.")
    return INFO.get(name, {})


def _usable(name: str, information: dict[str, Any]) -> bool:
    """Return whether a set of MedMNIST holds 2D images with one label each."""
    return not name.endswith("3d") and information["task"] != MULTI_LABEL


def _download(path: Path, flag: str, size: int) -> None:
    """Download the file ``path`` completely or not at all, and compare MedMNIST's MD5.

    Raises:
        InputError: the package is missing, the set does not exist, or the file cannot be downloaded or written.
    """
    try:
        import medmnist  # noqa: F401 only for the message: _information continues without the package
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
            f"data.reader.download=true could not download {path.name} ({type(error).__name__}): check the network and "
            f"the disk, or download it elsewhere and give its path: data.root=/path/to/{path.name}."
        ) from error
