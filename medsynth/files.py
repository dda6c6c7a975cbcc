"""Atomic writing of files, and the cache folder that runs share."""

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


def user_cache(package: str) -> Path:
    """Return the folder for files of ``package`` that can be made again, inside of the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medsynth" / package


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
        temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
