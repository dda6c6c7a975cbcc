"""The error that users can correct, and the codes of how a run can end.

Nothing heavy is imported here, since the command line needs both before it composes.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Iterator


class EndCode(enum.StrEnum):
    """Ends of a run, of one of its processes or of a sweep's job. Programs branch on these and never on a message."""

    COMPLETED = "completed"
    ALREADY_COMPLETE = "already_complete"  # resumed with nothing left to do
    INTERRUPTED = "interrupted"  # by a signal or Ctrl-C; it can be resumed
    DIVERGED = "diverged"  # a loss or a gradient is not finite
    OUT_OF_MEMORY = "out_of_memory"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"  # no undamaged checkpoint to resume from
    BAD_OPTION = "bad_option"
    DATA_ERROR = "data_error"  # a file of the user's data
    CANNOT_WRITE = "cannot_write"  # a folder or a disk
    KILLED = "killed"  # by a signal from outside, without a record of its own
    PRUNED = "pruned"  # ended by a search, since other trials did better
    DUPLICATE = "duplicate"  # a job that composes to the same training as another
    PROGRAM_ERROR = "program_error"  # a fault of medsynth or of a library


class InputError(ValueError):
    """A mistake that the user can correct.

    The message is one sentence that names the option or the file and the correction. The command line prints it without
    a traceback and exits with a code other than 0.

    Args:
        message: the sentence.
        code: how a run ends that is ended by this error; None: the class's own ``code``.
        hint: lines that the command line prints below the sentence, such as a table of what can be typed instead.
    """

    code: EndCode = EndCode.BAD_OPTION

    def __init__(self, message: str, *, code: EndCode | None = None, hint: str = ""):
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code


class Refused(BaseException):
    """Raised by a callback of Hydra from the error itself: Hydra turns any other exception into a warning."""


def extra_command(extra: str) -> str:
    """Return the command that installs an optional dependency of pyproject.toml, from a clone of the repository."""
    return f"uv sync --extra {extra} or pip install '.[{extra}]' in medsynth's folder"


MEMORY_TO_START = (
    "The memory that this process may use is not enough to load the program's libraries: close other programs, or "
    "raise the limit (ulimit -v, or the memory of the job)"
)


def is_lack_of_memory(error: BaseException) -> bool:
    """Tell whether the system gave this process no more memory. The loader of libraries has no class for it."""
    return isinstance(error, MemoryError) or is_lack_of_memory_to_load(error)


def is_lack_of_memory_to_load(error: BaseException) -> bool:
    """Tell whether a library could not be loaded for lack of memory."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, ImportError | OSError) and any(words in str(error).lower() for words in _NOT_MAPPED)


_NOT_MAPPED = ("failed to map segment", "cannot allocate memory", "out of memory")


def sentence_of(error: BaseException) -> str:
    """Return any error as one line, with its class unless it is an ``InputError``."""
    if isinstance(error, InputError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and the errors that it was raised from, the last first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
