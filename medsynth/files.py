"""Atomic writing of files and folders, and caches that their owner alone can read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CACHE_SALT = "salt"  # a file in each folder of prepared images, which only its owner can have written


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` at the end and is deleted after an error.

    Its name is no other writer's, so that two processes that write ``path`` at once each write a whole file, of which
    the later one stays.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that gets the name ``path`` at the end and is deleted after an error.

    Raises:
        FileExistsError: ``path`` exists by then, with files in it.
    """
    temporary = temporary_name(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other process takes; it ends in .tmp."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def delete_temporary(folder: Path, pattern: str = "*") -> None:
    """Delete what killed processes have left in ``folder`` of files whose names match ``pattern``."""
    for path in folder.glob(f"{pattern}.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def cache_entry(path: Path, *, prefix: str = ".filling-") -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path`` at the end and is deleted after an error; it is private.

    Processes that write the same entry at once do not disturb each other.

    Args:
        path: the complete entry; its parent exists.
        prefix: of the temporary folder's name.
    """
    temporary = path.with_name(f"{prefix}{secrets.token_hex(8)}")
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
        make_private(temporary)
        _take_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError:
        if not path.is_dir():
            raise
        old = temporary.with_name(f"{temporary.name}-old")
        with contextlib.suppress(FileNotFoundError):  # another process has just moved it
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if not path.is_dir():  # else another process was quicker, with the same content
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


def make_private(path: Path) -> None:
    """Leave a folder and everything in it to its owner alone: mode 0700 for folders, 0600 for files."""
    for item in (path, *path.rglob("*")):
        if not item.is_symlink():
            item.chmod(0o700 if item.is_dir() else 0o600)


def private_folder(path: Path) -> Path:
    """Create a folder for its owner alone, mode 0700. One that exists keeps its mode: it may be shared on purpose."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def user_cache(package: str) -> Path:
    """Return the folder for files of ``package`` that can be made again, in the user's cache folder.

    It is created if it is missing, and private also where an earlier version has created it.

    Raises:
        OSError: it cannot be created.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medsynth" / package
    private_folder(folder).chmod(0o700)
    return folder


def make_writable(folder: Path) -> None:
    """Create the folder if it is missing, and check that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON, complete or not at all. NaN becomes null, since JSON knows none."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
