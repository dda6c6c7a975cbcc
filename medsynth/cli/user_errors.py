"""Errors that the user can correct, in one sentence that names the option and what would be right."""

from __future__ import annotations

import sys

from medsynth.configuration.composition_errors import composition_error
from medsynth.configuration.override_text import override
from medsynth.errors import EndCode, InputError, causes
from medsynth.runs.run_end import RunEnd, cannot_write, end_of


def explain(error: BaseException, command: str) -> RunEnd | None:
    """Describe the end of a command by an error that has a sentence for the user; None: a fault of the program."""
    end = end_of(error)
    if end.code != EndCode.PROGRAM_ERROR or any(isinstance(cause, InputError) for cause in causes(error)):
        return end
    for cause in causes(error):
        if isinstance(cause, OSError) and _named_by(cause.filename):
            return RunEnd(EndCode.CANNOT_WRITE, cannot_write(cause))
    sentence = composition_error(error, command, sys.argv[1:])
    return None if sentence is None else RunEnd(EndCode.BAD_OPTION, sentence)


def _named_by(path: object) -> bool:
    """Tell whether hydra.run.dir was typed as ``path``."""
    return f"hydra.run.dir={path}" in sys.argv or override("hydra.run.dir", str(path)) in sys.argv
