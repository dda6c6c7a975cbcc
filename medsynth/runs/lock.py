"""The lock of a run's folder: one process trains there at a time."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from medsynth.errors import EndCode, InputError
from medsynth.files import delete_temporary
from medsynth.runs.layout import CHECKPOINT, COMPOSITION, CONFIGURATION, GENERATOR, METRICS, SUMMARY
from medsynth.runs.resume import refuse_running

LOCK = ".lock"  # the system releases it when its process ends, however that is; the file itself stays
PATIENCE = 10.0  # seconds: processes that a killed training has started hold its lock until they notice
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of a file system without them
_WRITTEN = (SUMMARY, CONFIGURATION, COMPOSITION, METRICS, GENERATOR)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in ``folder``; delete what killed ones have left there half written.

    Raises:
        InputError: another process trains there, or the folder cannot be written to.
    """
    refusal = (
        f"Another process is starting or resuming the run {folder}: wait for its end, or name another folder by "
        "hydra.run.dir=."
    )
    with held(folder / LOCK, refusal, patience=PATIENCE, meanwhile=lambda: refuse_running(folder)):
        _delete_unfinished(folder)
        try:
            yield
        finally:
            if not (folder / SUMMARY).is_file():  # refused before it began
                (folder / LOCK).unlink(missing_ok=True)


@contextlib.contextmanager
def held(
    path: Path, refusal: str, *, patience: float = 0.0, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lock ``path``; without one on a file system that has none.

    Args:
        path: an empty file, created with the folders above it. It stays, and the system unlocks it when the process
            ends.
        refusal: the sentence of the error where another process holds the lock.
        patience: seconds to wait for that process.
        meanwhile: called while waiting; it may raise an error of its own.

    Raises:
        InputError: another process holds the lock, or the file cannot be written.
    """
    lock, end = FileLock(path), time.monotonic() + patience
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _acquired(lock):
            meanwhile()
            if time.monotonic() >= end:
                raise InputError(refusal)
            time.sleep(0.1)
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror}; name another folder.", code=EndCode.CANNOT_WRITE
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock) -> bool:
    """Try to take the lock; True also where the file system has none."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    except NotImplementedError:
        pass
    return True


def _delete_unfinished(folder: Path) -> None:
    for name in _WRITTEN:
        delete_temporary(folder, f"{name}*")
    for below in ((folder / CHECKPOINT).parent, folder / "samples"):
        delete_temporary(below)
