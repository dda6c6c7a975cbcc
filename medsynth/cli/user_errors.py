"""Errors that are the user's to mend, in one sentence that names the option and what would be right."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from medsynth.configuration.composition_errors import composition_error
from medsynth.errors import InputError, causes

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)


def explain(error: BaseException, command: str, conf: Path) -> str | None:
    """One sentence for an error that is the user's to mend; None for what is a fault of the program."""
    for cause in causes(error):
        if isinstance(cause, InputError):
            return str(cause)
        if isinstance(cause, OSError) and (
            cause.errno in _CANNOT_WRITE or f"hydra.run.dir={cause.filename}" in sys.argv
        ):
            place = cause.filename or "the run's folder"
            return f"Cannot write {place}: {cause.strerror}; give another folder by hydra.run.dir=/path/to/folder."
        if type(cause).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate" in str(cause):
            return (
                "The memory of the device is not enough: raise task.accumulate, which computes a batch in parts, or "
                "lower data.batch_size, data.image_size or the players' widths."
            )
        if isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause):
            ended = str(cause).splitlines()[0].rstrip(". ")
            return f"{ended}: resume= goes on with the run; data.num_workers=0 does without such processes."
        unexpected = re.search(r"got an unexpected keyword argument '(\w+)'", str(cause))
        if isinstance(cause, TypeError) and unexpected and isinstance(error, InstantiationException):
            part = re.search(r"full_key: (\S+)", str(error))
            return f"{part[1] if part else 'A part'} takes no option {unexpected[1]}; `--cfg job` prints what it takes."
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as key=value: {str(error).splitlines()[0]}."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return composition_error(error, command, conf)
    return None
