"""The reader of a folder that is named without ``data=``, found by the content of its files."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from medsynth.configuration.override_text import override
from medsynth.configuration.plain_values import text_value
from medsynth.errors import InputError

COMMANDS = ("start", "data", "translate")
_ROOT = "data.root="
_SKIPPED = ("data=", "--he", "--cf", "--sh")  # the reader is chosen; help, configuration, completion look at no file
_SHORT = ("-h", "-c", "-sc")


def with_reader(command: str, arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with ``data=`` for the files in ``data.root=``, where only the latter is typed.

    Raises:
        InputError: ``medsynth start`` has no data, or the folder holds nothing that is read here.
    """
    arguments = list(arguments)
    if command not in COMMANDS or any(argument.startswith(_SKIPPED) or argument in _SHORT for argument in arguments):
        return arguments
    root = next((text_value(argument) for argument in arguments if argument.startswith(_ROOT)), None)
    if root is None:
        if command == "start":
            raise InputError("medsynth start needs the folder of your images: type medsynth start my/images.")
        return arguments
    from medsynth.data.content import KINDS, options_for  # NumPy and Pillow, which other commands need not wait for

    options = options_for(root)
    typed = [argument.partition("=")[0] for argument in arguments]
    reader = options.pop("data")
    print(f"The folder holds {KINDS[reader]}: data={reader}", file=sys.stderr, flush=True)
    added = [override(key, value) for key, value in options.items() if key not in typed]
    return [f"data={reader}", *added, *arguments]
