"""The reader of a folder that is named without ``data=``, found by the content of its files."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from medsynth.configuration.override_text import override
from medsynth.configuration.plain_values import text_value
from medsynth.errors import InputError

COMMANDS = ("start", "data", "translate")
TOLD = ("train", "plan", "pretrain")  # commands that are told which reader to type: a training's options are explicit
_ROOT = "data.root="
# the reader is chosen; help, configuration and completion look at no file
_SKIPPED = ("data=", "--help", "--cfg", "--shell-completion")
_CHOOSING = ("experiment", "resume", "hydra.searchpath", "--multirun", "+", "--config")  # may choose data, or several


def with_reader(command: str, arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with ``data=`` for the files in ``data.root=``, where only the latter is typed.

    Raises:
        InputError: ``medsynth start`` has no data, the folder holds nothing that is read here, or the command is told
            which reader to type.
    """
    arguments = list(arguments)
    if any(argument.startswith(_SKIPPED) for argument in arguments):
        return arguments
    told = command in TOLD and not any(argument.startswith(_CHOOSING) for argument in arguments)
    root = next((text_value(argument) for argument in arguments if argument.startswith(_ROOT)), None)
    if command == "start" and root is None:
        raise InputError("medsynth start needs the folder of your images: type medsynth start my/images.")
    if root is None or not (told or command in COMMANDS):
        return arguments
    from medsynth.data.content import KINDS, options_for  # NumPy and Pillow, which other commands need not wait for

    options = options_for(root)
    reader = options.pop("data")
    typed = [argument.partition("=")[0] for argument in arguments]
    added = [f"data={reader}", *(override(key, value) for key, value in options.items() if key not in typed)]
    if told:
        raise InputError(
            f"data.root= goes with a reader: the folder holds {KINDS[reader]}, so type {' '.join(added)}, too."
        )
    print(f"The folder holds {KINDS[reader]}: data={reader}", file=sys.stderr, flush=True)
    return [*added, *arguments]
