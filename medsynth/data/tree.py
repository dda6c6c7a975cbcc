"""Files by name, in a folder or in a zip archive that is read in place: nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from medsynth.data.errors import DataError, Unreadable
from medsynth.errors import InputError

LARGEST = 2 * 2**30  # bytes of one decompressed file; a file that claims more is a mistake or an attack
_HIDDEN = (".", "__MACOSX")


class Tree(Protocol):
    """Files by their names relative to the root, ``class/patient/image.png``, sorted.

    ``root`` is data.root as the user typed it. ``unsafe`` counts files that were left out for safety.
    """

    root: str
    names: tuple[str, ...]
    unsafe: int

    def read(self, name: str) -> bytes:
        """Return the whole content.

        Raises:
            Unreadable: the file is gone, damaged, or larger than LARGEST.
        """
        ...

    def head(self, name: str, size: int) -> bytes:
        """Return the first ``size`` bytes, or all of a shorter file.

        Raises:
            Unreadable: the file is gone or damaged.
        """
        ...

    def state(self, name: str) -> tuple[int, int]:
        """Return the size and the time of the last change (in an archive: the checksum), which show a replaced file."""
        ...


def open_tree(root: str | None, *, example: str) -> Tree:
    """Open a folder or a zip archive; hidden files are ignored.

    Args:
        root: the path.
        example: ends error messages and shows what to type.

    Raises:
        InputError: ``root`` is not given, does not exist, or is empty.
    """
    if not root:
        raise InputError(f"data.root is needed: {example}")
    path = Path(root).expanduser()
    if path.is_dir():
        tree: Tree = FolderTree(path, root)
    elif zipfile.is_zipfile(path):
        tree = ZipTree(path, root)
    else:
        state = "is neither a folder nor a zip archive" if path.exists() else "does not exist"
        raise DataError(f"data.root={root} {state}: {example}")
    if not tree.names:
        raise DataError(f"data.root={root} is empty: {example}")
    return tree


class FolderTree:
    """Files below a folder, at any depth. Links to files are followed, since people gather data sets with them."""

    def __init__(self, folder: Path, root: str) -> None:
        self.root = root
        self.unsafe = 0
        self._folder = folder
        paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
        self.names = _visible(Path(os.path.relpath(path, folder)).as_posix() for path in paths if os.path.isfile(path))

    def read(self, name: str) -> bytes:
        """Return the whole content; see Tree."""
        path = self._folder / name
        try:
            if path.stat().st_size > LARGEST:
                raise Unreadable(f"it is larger than {LARGEST / 2**30:.0f} GiB")
            return path.read_bytes()
        except OSError as error:
            raise Unreadable(error.strerror or type(error).__name__) from error

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes; see Tree."""
        try:
            with (self._folder / name).open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise Unreadable(error.strerror or type(error).__name__) from error

    def state(self, name: str) -> tuple[int, int]:
        """Return size and time of the last change, or the checksum; see Tree."""
        status = (self._folder / name).stat()
        return status.st_size, status.st_mtime_ns


class ZipTree:
    """Files in a zip archive. Names that lead out of it, links and encrypted files are left out and counted."""

    def __init__(self, path: Path, root: str) -> None:
        self.root = root
        self._path = path
        self._archive: zipfile.ZipFile | None = None
        self._process = 0
        try:
            entries = [entry for entry in self._opened().infolist() if not entry.is_dir()]
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise DataError(
                f"data.root={root} is a damaged zip archive ({error}): pack or download it again."
            ) from error
        safe = {entry.filename: entry for entry in entries if _safe(entry)}
        self.unsafe = len(entries) - len(safe)
        self._entries = safe
        self.names = _visible(safe)

    def read(self, name: str) -> bytes:
        """Return the whole content; see Tree."""
        entry = self._entries[name]
        # Zip bombs announce themselves: never more is read than the entry's own claim.
        if entry.file_size > LARGEST:
            raise Unreadable(f"it claims more than {LARGEST / 2**30:.0f} GiB once decompressed")
        try:
            return self._opened().read(entry)
        except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, OSError ...
            raise Unreadable("the archive is damaged at this file") from error

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes; see Tree."""
        try:
            with self._opened().open(self._entries[name]) as file:
                return file.read(size)
        except Exception as error:  # as above
            raise Unreadable("the archive is damaged at this file") from error

    def state(self, name: str) -> tuple[int, int]:
        """Return size and time of the last change, or the checksum; see Tree."""
        return self._entries[name].file_size, self._entries[name].CRC

    def _opened(self) -> zipfile.ZipFile:
        # Each process opens the file anew, a forked one too: an open file has one position, shared by all.
        if self._archive is None or self._process != os.getpid():
            self._archive, self._process = zipfile.ZipFile(self._path), os.getpid()
        return self._archive

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_archive": None}

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            if self._archive is not None:
                self._archive.close()


def outside(name: str) -> bool:
    """Return whether a relative file name leads out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":")


def _safe(entry: zipfile.ZipInfo) -> bool:
    link = stat.S_ISLNK(entry.external_attr >> 16)
    return not (link or outside(entry.filename) or entry.flag_bits & 1)


def _visible(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if not any(part.startswith(_HIDDEN) for part in name.split("/"))))
