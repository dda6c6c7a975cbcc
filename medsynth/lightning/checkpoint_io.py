"""Checkpoints on disk: written atomically, with a digest that tells whether a file is whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from medsynth.files import replacing
from medsynth.runs.layout import older

_MARK = b"medsynth sha256 "
_SEAL = len(_MARK) + 64  # bytes of the archive's comment: the mark and the digest in hexadecimal


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to another name, flushes to disk and renames: a checkpoint is whole, or it is the previous one.

    Each file ends with its own digest, so that damage of any byte is noticed (``damage``). Files are read with
    ``weights_only=True``: they hold plain values, and no code runs.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint; ``storage_options={"keep": n}`` keeps the n previous files beside ``path``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            _write(checkpoint, temporary)
            _seal(temporary)
            _keep(path, (storage_options or {}).get("keep", 0))
        _flush(path.parent)  # the rename itself

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:
        """Read the checkpoint's plain values; ``weights_only``, which Lightning gives, is always true."""
        return super().load_checkpoint(path, map_location=map_location, weights_only=True)


def damage(path: Path) -> str | None:
    """Describe the damage of the checkpoint at ``path`` in a few words; None: it is as it was written.

    All bytes are read. A file without a digest is checked by the checksums of its archive's entries.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _SEAL))
            seal = file.read()
            if not seal.startswith(_MARK):
                return _damage_of_entries(path)
            file.seek(0)
            whole = _digest(file, size - _SEAL) == seal.removeprefix(_MARK)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if whole else "its bytes are not those that were written"


def _damage_of_entries(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"it is cut short or no checkpoint: {error}"
    return f"its entry {broken} is not what was written" if broken else None


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    try:
        torch.save(checkpoint, path)
    except RuntimeError:
        with path.open("ab") as file:  # PyTorch does not say that the disk is full; if it is, this raises OSError
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
        raise


def _seal(path: Path) -> None:
    """Append the digest of the file as the comment of the archive that it is, and wait until the disk has it all."""
    with path.open("r+b") as file:
        size = file.seek(-2, os.SEEK_END) + 2  # the archive's last two bytes are the length of its comment
        file.write(_SEAL.to_bytes(2, "little"))
        file.seek(0)
        digest = _digest(file, size)
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest)
        file.flush()
        os.fsync(file.fileno())


def _digest(file: Any, count: int) -> bytes:
    """SHA-256 in hexadecimal of the next ``count`` bytes."""
    digest = hashlib.sha256()
    while count > 0 and (block := file.read(min(count, 2**22))):
        digest.update(block)
        count -= len(block)
    return digest.hexdigest().encode()


def _keep(path: Path, count: int) -> None:
    """Give the file at ``path`` a second name before it is replaced; the ``count`` older ones move on by one."""
    if count < 1 or not path.is_file():
        return
    for number in range(count, 1, -1):
        if older(path, number - 1).is_file():
            os.replace(older(path, number - 1), older(path, number))
    with replacing(older(path, 1)) as second:
        second.unlink(missing_ok=True)
        try:
            os.link(path, second)  # so that there is a file at ``path`` at all times
        except OSError:  # a file system without links
            shutil.copyfile(path, second)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
