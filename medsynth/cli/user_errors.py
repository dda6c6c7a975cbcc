"""Errors that the user can correct, in one sentence that names the option and what would be right."""

from __future__ import annotations

import errno
import sys

from medsynth.configuration.composition_errors import composition_error
from medsynth.errors import InputError, causes
from medsynth.runs.run_end import is_out_of_memory

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)


def explain(error: BaseException, command: str) -> str | None:
    """Return one sentence for an error that the user can correct; None for a fault of the program."""
    for cause in causes(error):
        if isinstance(cause, InputError):
            return str(cause)
        if isinstance(cause, OSError) and (
            cause.errno in _CANNOT_WRITE or f"hydra.run.dir={cause.filename}" in sys.argv
        ):
            place = cause.filename or "the run's folder"
            return f"Cannot write {place}: {cause.strerror}; give another folder by hydra.run.dir=/path/to/folder."
        if is_out_of_memory(cause):
            return (
                "The memory of the device is not enough: raise task.accumulate, which splits a batch into "
                "microbatches, or lower data.batch_size, data.image_size or the widths of the networks."
            )
        if isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause):  # PyTorch has no class for it
            ended = str(cause).splitlines()[0].rstrip(". ")
            return f"{ended}: resume= continues the run; data.num_workers=0 uses no such processes."
    return composition_error(error, command, sys.argv[1:])
