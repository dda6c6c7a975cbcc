"""Files by name, in a folder or in a zip archive that is read in place: nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import heapq
import os
import stat
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from medsynth.data.errors import DataError, Reason, ReasonKind, Unreadable
from medsynth.errors import InputError

LARGEST = 2 * 2**30  # bytes of one decompressed file; a file that claims more is a mistake or an attack
HIDDEN = Reason(ReasonKind.NOT_AN_IMAGE, "hidden files and folders (names that begin with . or __MACOSX)")
BROKEN_LINK = Reason(ReasonKind.DAMAGED, "links that lead nowhere")
READ_ALREADY = Reason(ReasonKind.UNSAFE, "links to folders that are read already")
AROUND = Reason(ReasonKind.UNSAFE, "links to a folder around them")
SPECIAL = Reason(ReasonKind.UNSAFE, "neither files nor folders (devices, pipes, sockets)")
ARCHIVE_LINK = Reason(ReasonKind.UNSAFE, "links in an archive")
OUTSIDE = Reason(ReasonKind.UNSAFE, "names that lead out of the archive")
ENCRYPTED = Reason(ReasonKind.UNSAFE, "encrypted files: unpack the archive with its password and name the folder")
TWICE = Reason(ReasonKind.UNSAFE, "names that the archive holds twice, of which the last one is read")
_HIDDEN = (".", "__MACOSX")


class Tree(Protocol):
    """Files by their names relative to the root, ``class/patient/image.png``, sorted.

    ``root`` is data.root as the user typed it. ``lost`` are names of what lies below it and is not read, each with the
    reason; a folder that cannot be read is one name.
    """

    root: str
    names: tuple[str, ...]
    lost: list[tuple[str, Reason]]

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
        counts = Counter(reason for _, reason in tree.lost)
        reasons = "; ".join(f"{reason}: {count}" for reason, count in counts.items())
        state = f"holds nothing that can be read ({reasons})" if reasons else "is empty"
        raise DataError(f"data.root={root} {state}: {example}")
    return tree


def require_images(option: str, root: str) -> Path:
    """Return the path of a folder or archive that an option names.

    Raises:
        InputError: it does not exist.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise InputError(f"{option}={root} does not exist: give a folder or a zip archive of images.")
    return path


class FolderTree:
    """Files below a folder, at any depth. Links are followed, since people gather data sets with them.

    Each folder is read once, so that links that form a circle end: under its own name if it lies below ``folder``,
    else under that of the first link to it.
    """

    def __init__(self, folder: Path, root: str) -> None:
        self.root = root
        self._folder = folder
        walk = _Walk(folder)
        self.names, self.lost = tuple(sorted(walk.names)), walk.lost

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
            entries = [entry for entry in self._opened().infolist() if not _names_folder(entry)]
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise DataError(
                f"data.root={root} is a damaged zip archive ({error}): pack or download it again."
            ) from error
        self.lost: list[tuple[str, Reason]] = []
        self._hidden: set[str] = set()
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            self._add(entry)
        self.lost += [(name, HIDDEN) for name in sorted(self._hidden)]
        self.names = tuple(sorted(self._entries))

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

    def _add(self, entry: zipfile.ZipInfo) -> None:
        # Some programs of Windows write backslashes, some of Unix a leading "./".
        name = "/".join(part for part in entry.filename.replace("\\", "/").split("/") if part != ".")
        hidden = _hidden_part(name)
        if hidden:
            self._hidden.add(hidden)
        elif reason := _unsafe(entry):
            self.lost.append((name, reason))
        else:
            if name in self._entries:
                self.lost.append((name, TWICE))
            self._entries[name] = entry

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


class _Walk:
    """The visible files below a folder, and the reason for each name that is not among them.

    Links to folders are followed when all folders have been read, in the order of their names.
    """

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self.lost: list[tuple[str, Reason]] = []
        above = (_identity(parent) for parent in folder.resolve().parents)
        self._seen = set(above)  # a link to one of these would lead here again
        self._folders = [("", str(folder))]  # names below the root, "" or with a slash at the end, and paths
        self._links: list[tuple[str, str]] = []
        while self._folders or self._links:
            name, path = self._folders.pop() if self._folders else heapq.heappop(self._links)
            self._read(path, name)

    def _read(self, path: str, name: str) -> None:
        identity = _identity(path)
        if identity and identity in self._seen:
            around = Path(path).parent.resolve().is_relative_to(Path(path).resolve())
            self.lost.append((name.rstrip("/"), AROUND if around else READ_ALREADY))
            return
        self._seen.add(identity)
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            text = f"folders that cannot be read ({error.strerror or type(error).__name__})"
            self.lost.append((name.rstrip("/"), Reason(ReasonKind.DAMAGED, text)))
            return
        for entry in entries:
            self._sort(entry, name + entry.name)

    def _sort(self, entry: os.DirEntry[str], name: str) -> None:
        if entry.name.startswith(_HIDDEN):
            self.lost.append((name, HIDDEN))
            return
        try:
            folder, file, link = entry.is_dir(), entry.is_file(), entry.is_symlink()
        except OSError:  # a link to itself, or into a folder that may not be read
            folder, file, link = False, False, True
        if folder and link:
            heapq.heappush(self._links, (f"{name}/", entry.path))
        elif folder:
            self._folders.append((f"{name}/", entry.path))
        elif file:
            self.names.append(name)
        else:
            self.lost.append((name, BROKEN_LINK if link else SPECIAL))


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _names_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith(("/", "\\"))


def _unsafe(entry: zipfile.ZipInfo) -> Reason | None:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return ARCHIVE_LINK
    if outside(entry.filename):
        return OUTSIDE
    return ENCRYPTED if entry.flag_bits & 1 else None


def _hidden_part(name: str) -> str:
    """Return a name up to its first hidden part; "" where no part is hidden."""
    parts = name.split("/")
    for count, part in enumerate(parts, start=1):
        if part.startswith(_HIDDEN) and part != "..":
            return "/".join(parts[:count])
    return ""
