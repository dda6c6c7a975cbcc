"""Checksums of a cache entry's files by block: bytes that were cut off or changed are found before they are used.

Each block has a CRC-32, which takes 0.7 seconds per GiB and misses one of 4 billion random changes. Entries up to
``AT_ONCE`` are verified when they are opened, each block of larger ones when a process first reads from it.
"""

from __future__ import annotations

import functools
import io
import logging
import mmap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medsynth.files import write_json
from medsynth.untrusted_files import UnreadableFile, load_json

FILE = "checksums.json"
BLOCK = 64 * 2**10  # bytes, about as many as the system reads from a disk for a single access
AT_ONCE = 2**30  # bytes of an array that are verified when it is opened
_TYPE = np.dtype("<u4")
_log = logging.getLogger(__name__)
Entry = TypeVar("Entry")


class Damaged(Exception):
    """An entry is not as it was written. The message is a phrase that names the file."""


def write_checksums(folder: Path) -> None:
    """Record sizes and checksums of all files in ``folder``; ``checksums.json`` is the last file of an entry."""
    write_json(folder / FILE, {path.name: _record(path) for path in sorted(folder.iterdir()) if path.name != FILE})


def mark_damaged(folder: Path) -> None:
    """Have the next process that opens this entry take it for damaged."""
    (folder / FILE).unlink(missing_ok=True)


def opened_if_whole(path: Path, open_entry: Callable[[Path], Entry], warning: str) -> Entry | None:
    """Open an entry; None where it does not exist, or with a warning where it is damaged and has to be made again.

    Args:
        path: of the entry.
        open_entry: opens it, and raises Damaged where it is not as it was written.
        warning: a sentence with %s for the path and %s for the damage.
    """
    if not path.is_dir():
        return None
    try:
        return open_entry(path)
    except Damaged as damage:
        _log.warning(warning, path, damage)
        return None


class Checksums:
    """The sizes and checksums of an entry's files, as they were when it was written.

    Raises:
        Damaged: they are missing or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._records = load_json(folder / FILE)
        except (OSError, UnreadableFile) as error:
            raise Damaged(_missing(FILE) if isinstance(error, FileNotFoundError) else _changed(FILE)) from error

    def read(self, name: str) -> bytes:
        """Return the verified content of a file.

        Raises:
            Damaged: the file is missing, or its content has changed.
        """
        size, sums = self._expected(name)
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError as error:  # the entry is just being replaced
            raise Damaged(_missing(name)) from error
        if len(content) != size or not np.array_equal(_sums(content), sums):
            raise Damaged(_changed(name))
        return content

    def array(self, name: str) -> CheckedArray:
        """Map a ``.npy`` file into memory and verify it, all of it now if it is not larger than ``AT_ONCE``.

        Raises:
            Damaged: the file is missing, its length is wrong, or its content has changed.
        """
        size, sums = self._expected(name)
        try:
            array = CheckedArray(self._folder / name, sums)
        except FileNotFoundError as error:  # as above
            raise Damaged(_missing(name)) from error
        if size <= AT_ONCE:
            array.verify()
        return array

    def _expected(self, name: str) -> tuple[int, np.ndarray]:
        """Return the recorded size and checksums of a file that exists and has this size."""
        try:
            record = self._records[name]
            size, sums = int(record["size"]), np.frombuffer(bytes.fromhex(record["crc32"]), _TYPE)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Damaged(_changed(FILE)) from error
        try:
            found = (self._folder / name).stat().st_size
        except OSError as error:
            raise Damaged(_missing(name)) from error
        if found != size:
            raise Damaged(f"{name} has {found:,} bytes instead of {size:,}")
        if len(sums) != -(-size // BLOCK) or not size:
            raise Damaged(_changed(FILE))
        return size, sums


class CheckedArray:
    """A ``.npy`` file mapped into memory; a block is verified before its first use in this process.

    Attributes:
        values: the array, read-only. Nothing of it is verified by its use: ``read`` and ``verify`` do that.
    """

    def __init__(self, path: Path, sums: np.ndarray) -> None:
        self.path, self._sums = path, sums
        self._unverified = np.ones(len(sums), dtype=bool)
        self._map()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of these rows.

        Raises:
            Damaged: their content has changed.
        """
        if self._unverified.any():
            self._verify(self._blocks(rows))
        return self.values[rows]

    def verify(self) -> None:
        """Verify the whole file.

        Raises:
            Damaged: its content has changed.
        """
        self._verify(np.flatnonzero(self._unverified))
        self.release()

    def release(self) -> None:
        """Have the system take the mapped pages from this process, whose memory they count as; they stay cached."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._content.madvise(mmap.MADV_DONTNEED)

    def _verify(self, blocks: np.ndarray) -> None:
        content = memoryview(self._content)
        for block in blocks[self._unverified[blocks]].tolist():
            if zlib.crc32(content[block * BLOCK : (block + 1) * BLOCK]) != self._sums[block]:
                raise Damaged(_changed(self.path.name))
            self._unverified[block] = False

    def _blocks(self, rows: np.ndarray) -> np.ndarray:
        bytes_of_row = self.values[0].nbytes
        starts = self._offset + np.asarray(rows, dtype=np.int64) * bytes_of_row
        first, last = starts // BLOCK, (starts + bytes_of_row - 1) // BLOCK
        return np.unique(np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]))

    def _map(self) -> None:
        with self.path.open("rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._verify(np.zeros(1, dtype=np.int64))  # the header, before it is parsed
        header = io.BytesIO(self._content[:BLOCK])
        try:
            version = np.lib.format.read_magic(header)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(header)
            self._offset = header.tell()
            self.values = np.frombuffer(self._content, dtype, offset=self._offset).reshape(shape)
        except (ValueError, TypeError, EOFError) as error:  # a file of someone else, with checksums that fit it
            raise Damaged(f"{self.path.name} is no array") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_sums": self._sums, "_unverified": self._unverified}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()


def _record(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sums = np.array([zlib.crc32(block) for block in iter(functools.partial(file.read, BLOCK), b"")], _TYPE)
    return {"size": path.stat().st_size, "crc32": sums.tobytes().hex()}


def _sums(content: bytes) -> np.ndarray:
    return np.array([zlib.crc32(content[at : at + BLOCK]) for at in range(0, len(content), BLOCK)], _TYPE)


def _missing(name: str) -> str:
    return f"{name} is missing"


def _changed(name: str) -> str:
    return f"{name} has changed"
