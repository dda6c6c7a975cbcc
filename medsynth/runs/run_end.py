"""The end of a run as data: one record with one writer and one reader.

A run writes its end into summary.json. A process that another one waits for, such as a sweep's job or one of several
processes of a training, also writes it to the file that the waiting process has named in the environment. So its end is
known even if it created no folder, and nothing that it prints has to be read.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth.errors import (
    MEMORY_TO_START,
    EndCode,
    InputError,
    causes,
    is_lack_of_memory,
    is_lack_of_memory_to_load,
    sentence_of,
)
from medsynth.files import replacing
from medsynth.runs.records import read_json
from medsynth.runs.status import COMPLETED, DIVERGED, DUPLICATE, FAILED, KILLED, STOPPED

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)
_SAVE_MEMORY = (
    "The memory of the device is not enough: raise task.accumulate, which splits a batch into microbatches, or lower "
    "data.batch_size, data.image_size or the widths of the networks"
)
RUN_END = "MEDSYNTH_RUN_END"  # environment variable: the file to which a process writes its end
_STATUS = {
    EndCode.COMPLETED: COMPLETED,
    EndCode.ALREADY_COMPLETE: COMPLETED,
    EndCode.INTERRUPTED: STOPPED,
    EndCode.PRUNED: STOPPED,
    EndCode.DIVERGED: DIVERGED,
    EndCode.KILLED: KILLED,
    EndCode.DUPLICATE: DUPLICATE,
}


@dataclasses.dataclass(frozen=True)
class RunEnd:
    """The end of a run, of one of its processes, or of a sweep's job.

    Attributes:
        code: what programs branch on.
        message: one sentence for people; None where the run completed.
        requeue: SLURM is to start the job again.
    """

    code: EndCode
    message: str | None = None
    requeue: bool = False

    @property
    def status(self) -> str:
        """One of ``runs.status.STATUSES``: what tables and reports show."""
        return _STATUS.get(self.code, FAILED)

    def record(self) -> dict[str, Any]:
        """Return the entries of summary.json, job.json and the file of a process."""
        return {"status": self.status, "code": self.code.value, "reason": self.message, "requeue": self.requeue}


class Interrupted(InputError):
    """The user or the system asked the run to stop; ``requeue``: SLURM is to start its job again."""

    code = EndCode.INTERRUPTED

    def __init__(self, message: str, *, requeue: bool = False):
        super().__init__(message)
        self.requeue = requeue


def error_of(end: RunEnd) -> InputError:
    """Return the error that ends the waiting process as ``end`` ended the one that it waited for."""
    message = end.message or end.code.value
    if end.code == EndCode.INTERRUPTED:
        return Interrupted(message, requeue=end.requeue)
    return InputError(message, code=end.code)


def end_of(error: BaseException) -> RunEnd:
    """Describe the end of a run that ``error`` ended."""
    requeue = bool(getattr(error, "requeue", False))
    for cause in causes(error):
        if isinstance(cause, InputError):
            return RunEnd(cause.code, str(cause), requeue)
    if isinstance(error, KeyboardInterrupt):
        return RunEnd(EndCode.INTERRUPTED, str(error) or "interrupted", requeue)
    if isinstance(error, SystemExit):
        return RunEnd(EndCode.INTERRUPTED, sentence_of(error), requeue)
    ends = map(_end_of_library_error, causes(error))
    return next((end for end in ends if end is not None), RunEnd(EndCode.PROGRAM_ERROR, sentence_of(error)))


def _end_of_library_error(error: BaseException) -> RunEnd | None:
    """Describe the end by an error that the system or a library has raised; None: a fault of the program."""
    if is_lack_of_memory_to_load(error):
        return RunEnd(EndCode.OUT_OF_MEMORY, f"{MEMORY_TO_START} ({sentence_of(error)}).")
    if is_out_of_memory(error):
        return RunEnd(EndCode.OUT_OF_MEMORY, f"{_SAVE_MEMORY} ({sentence_of(error)}).")
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return RunEnd(EndCode.CANNOT_WRITE, cannot_write(error))
    # PyTorch has no class for a process of a DataLoader that was killed, and raises RuntimeError.
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        line = str(error).splitlines()[0].rstrip(". ")
        return RunEnd(EndCode.KILLED, f"{line}: resume= continues the run; data.num_workers=0 uses no such processes.")
    return None


def cannot_write(error: OSError) -> str:
    """Say in one sentence which file or folder could not be written, and what to do."""
    place = error.filename or "the run's folder"
    return f"Cannot write {place}: {error.strerror}; give another folder by hydra.run.dir=/path/to/folder."


def end_of_silent_process(exit_code: int) -> RunEnd:
    """Describe the end of a process that wrote none; ``exit_code`` as ``subprocess`` has it, negative for a signal."""
    if exit_code == 0:
        return RunEnd(EndCode.PROGRAM_ERROR, "its process ended without an error and without a summary")
    if exit_code > 0:
        return RunEnd(EndCode.PROGRAM_ERROR, f"its process ended with exit code {exit_code} and no record of why")
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return RunEnd(EndCode.KILLED, f"killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else ""))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device or the machine had no memory left. PyTorch's CPU allocator has no class for it."""
    return (
        is_lack_of_memory(error)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate" in str(error))
    )


def write_run_end(end: RunEnd, path: Path) -> None:
    """Write ``end`` as JSON, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(end.record(), indent=2) + "\n", encoding="utf-8")


def report_run_end(end: RunEnd) -> None:
    """Write ``end`` to the file that the process waiting for this one has named, if there is one."""
    path = os.environ.get(RUN_END)
    if path:
        write_run_end(end, Path(path))


def read_run_end(record: Path | Mapping[str, Any]) -> RunEnd | None:
    """Read the end from a file or from the content of summary.json or job.json.

    None: there is no such file, it is damaged, or the run has not ended. Records of earlier versions have a status and
    no code: the code is then that of the status.
    """
    content = read_json(record) if isinstance(record, Path) else record
    known = {code.value: code for code in EndCode}
    code = known.get(str(content.get("code")))
    if code is None:
        of_status = {status: code for code, status in reversed(_STATUS.items())} | {FAILED: EndCode.PROGRAM_ERROR}
        code = of_status.get(str(content.get("status")))
    if code is None:
        return None
    message = content.get("reason")
    return RunEnd(code, message if isinstance(message, str) else None, bool(content.get("requeue")))
