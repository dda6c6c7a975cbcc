"""The cache of prepared images on disk, memory-mapped. An entry is complete or absent; one process writes it.

An entry is a folder in ``cache_dir`` with ``images.npy`` (N, C, H, W), integers that span [-1, 1]; ``columns.npz``, one
value for each image; ``manifest.json`` about the whole set; and ``checksums.json``. They hold no file name and no
patient's identifier; patients are keyed by a hash with a secret salt that stays in ``cache_dir``.

No byte is used that was not verified. Manifest, columns and images up to 1 GiB are verified when an entry is opened; a
damaged entry is then prepared again. Of more images each block of 64 KiB is verified when a process first reads from
it; damage ends the run, and the next one prepares the images again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from medsynth.checksums import Checksums, Damaged, mark_damaged, opened_if_whole
from medsynth.data.errors import DataError
from medsynth.data.manifest import Manifest
from medsynth.errors import EndCode, InputError
from medsynth.files import CACHE_SALT, cache_entry, make_writable, private_folder, replacing, user_cache
from medsynth.untrusted_files import parsed_json

log = logging.getLogger(__name__)
FORMAT = 7  # part of the key: entries of another format are not opened
RESIDENT = 128 * 2**20  # bytes; smaller sets are kept in memory as float32, of larger ones this much is mapped
COLUMNS = ("label", "split", "patient", "file_number", "digest", "perceptual", "series", "place")
_PAGES_MAPPED = 64 * 2**10  # bytes that the kernel maps around an access
_SALT = 32  # bytes


class Columns(Mapping[str, list[Any]]):
    """Column name -> one value for each image. Columns are large and seldom needed: each access reads the file.

    Raises:
        Damaged: the file does not hold the columns of ``count`` images.
    """

    def __init__(self, path: Path, content: bytes, count: int) -> None:
        self._path = path
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as columns:
                complete = set(COLUMNS) <= set(columns.files) and all(len(columns[name]) == count for name in COLUMNS)
        except (ValueError, TypeError, zipfile.BadZipFile) as error:
            raise Damaged(f"{path.name} cannot be read") from error
        if not complete:
            raise Damaged(f"{path.name} lacks columns")

    def __getitem__(self, name: str) -> list[Any]:
        if name not in COLUMNS:
            raise KeyError(name)
        try:
            with np.load(self._path, allow_pickle=False) as columns:  # a zip archive, which has checksums of its own
                return columns[name].tolist()
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise _damaged_in_use(self._path.parent, f"{self._path.name} has changed") from error

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)


class Store:
    """The prepared images of one data set.

    Attributes:
        folder: the cache's entry.
        manifest: the record of the data set as a whole.
        columns: ``COLUMNS`` of each image.

    Raises:
        Damaged: the entry is not as it was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        checksums = Checksums(folder)
        self.manifest = _manifest(checksums.read("manifest.json"))
        self._images = checksums.array("images.npy")
        self.columns = Columns(folder / "columns.npz", checksums.read("columns.npz"), len(self))
        self._kept: Tensor | None = None
        self._touched = 0

    def __len__(self) -> int:
        return len(self._images.values)

    @property
    def size(self) -> int:
        """Height and width of the prepared images, in pixels."""
        return self._images.values.shape[-1]

    def read(self, rows: np.ndarray) -> Tensor:
        """Return the images of these rows, float32 ``(len(rows), C, H, W)`` in [-1, 1].

        Raises:
            DataError: they have changed since they were prepared.
        """
        if self._kept is None and 4 * self._images.values.size <= RESIDENT:
            self._kept = self._from_disk(np.arange(len(self)))
        return self._from_disk(rows) if self._kept is None else self._kept[torch.from_numpy(rows)]

    def _from_disk(self, rows: np.ndarray) -> Tensor:
        try:
            stored = self._images.read(rows)
        except Damaged as damage:
            raise _damaged_in_use(self.folder, str(damage)) from damage
        self._limit_mapped_memory(len(rows))
        # In place and in NumPy: twice as fast as five alternatives. The highest stored value becomes 1 exactly.
        images = stored.astype(np.float32)
        images *= np.float32(2 / np.iinfo(stored.dtype).max)
        images -= np.float32(1)
        return torch.from_numpy(images)

    def _limit_mapped_memory(self, rows: int) -> None:
        """Keep the mapped part of a large file within RESIDENT.

        Mapped pages count as this process's memory although they are the system's file cache; without a limit, memory
        would grow to the size of the data set. This costs 4 microseconds an image; small files are skipped.
        """
        values = self._images.values
        if values.nbytes <= RESIDENT:
            return
        self._touched += rows * max(values[0].nbytes, _PAGES_MAPPED)
        if self._touched > RESIDENT:
            self._images.release()
            self._touched = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None, "_touched": 0}


def _manifest(content: bytes) -> Manifest:
    try:
        manifest = parsed_json(content.decode())
    except (ValueError, RecursionError) as error:
        raise Damaged("manifest.json cannot be read") from error
    if not isinstance(manifest, dict) or not set(Manifest.__annotations__) <= set(manifest):
        raise Damaged("manifest.json lacks entries")
    return manifest  # pyright: ignore[reportReturnType] (its values are as they were written: see checksums.json)


def _damaged_in_use(folder: Path, damage: str) -> DataError:
    """Return the error that ends a run whose data turn out to be damaged while they are read."""
    mark_damaged(folder)
    return DataError(
        f"The prepared images in {folder} are damaged ({damage}): start or resume again, and they are prepared again."
    )


def quantize(images: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Map images in [-1, 1] to integers that span the whole range of ``dtype``."""
    highest = np.iinfo(dtype).max
    return ((images.astype(np.float64) + 1) * (highest / 2)).round().clip(0, highest).astype(dtype)


def cache_folder(cache_dir: str | None) -> Path:
    """Return the folder of all cache entries, created if missing; None: medsynth's part of the user's cache folder.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        folder = private_folder(Path(cache_dir).expanduser()) if cache_dir else user_cache("data")
        make_writable(folder)
    except OSError as error:
        raise InputError(
            f"data.cache_dir={cache_dir or error.filename} cannot be written to ({error.strerror}): name a folder that "
            "can be.",
            code=EndCode.CANNOT_WRITE,
        ) from error
    return folder


def open_store(folder: Path, key: Mapping[str, Any], fill: Callable[[Path], None]) -> Store:
    """Open the entry of ``key``, and write it first if it does not exist or is damaged.

    ``fill`` writes the files, with checksums, into a temporary folder that is renamed at the end. Other processes wait
    meanwhile. A process that is killed leaves a temporary folder, which the next one removes.

    Raises:
        InputError: from ``fill``; or the entry is damaged as soon as it is written.
    """
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True, default=str)
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    path = folder / name
    with contextlib.suppress(Damaged, FileNotFoundError):
        return Store(path)
    with FileLock(folder / f".{name}.lock", mode=0o600):
        for leftover in folder.glob(f".{name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        warning = "The prepared images in %s are damaged (%s): they are prepared again."
        written = opened_if_whole(path, Store, warning)  # by another process, meanwhile
        if written is not None:
            return written
        with cache_entry(path, prefix=f".{name}-") as temporary:
            fill(temporary)
        try:
            return Store(path)
        except Damaged as damage:
            raise InputError(
                f"The prepared images in {path} are damaged as soon as they are written ({damage}): check the disk, "
                f"or name a folder on another one by data.cache_dir=.",
                code=EndCode.CANNOT_WRITE,
            ) from damage


def salt(folder: Path) -> bytes:
    """Return this cache folder's secret for hashing patients, created on first use and readable by its owner alone.

    One that was cut is replaced: without a secret, patients could be found by trying names.
    """
    path = folder / CACHE_SALT
    with FileLock(folder / ".salt.lock", mode=0o600):
        if not path.is_file() or path.stat().st_size != _SALT:
            with replacing(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(_SALT))
        return path.read_bytes()


def hashed(patient: str, key: bytes) -> str:
    """Return 12 hexadecimal digits in place of a patient's identifier; "" (not known) stays ""."""
    return hashlib.blake2b(patient.encode(), key=key, digest_size=6).hexdigest() if patient else ""
