"""The command line: ``medsynth COMMAND key=value ...``.

Nothing heavy is imported before the configuration is composed, so that --help and typing errors are shown at once.
"""

from __future__ import annotations

import contextlib
import math
import sys
from typing import NoReturn

import medsynth
from medsynth.cli.command_line import ALIASES, COMMANDS, completion, unknown_command, usage, with_keys
from medsynth.configuration.flags import flags_last
from medsynth.errors import MEMORY_TO_START, InputError, is_lack_of_memory

try:
    import resource
except ImportError:  # Windows
    resource = None

# Bytes of addresses with which no command can load its libraries: PyTorch alone takes more. Below, Python's modules and
# OpenBLAS print their own messages, with tracebacks, or end the process.
LEAST_ADDRESSES = 256 * 2**20


def main(command: str | None = None) -> None:
    """Run ``command`` with the arguments of this process; None: the first argument names it."""
    if command is None:
        command, sys.argv[1:] = _command(sys.argv[1:])
    if "--version" in sys.argv[1:]:
        _print_version()
    sys.argv[1:] = _checked(command, sys.argv[1:])
    if _addresses() < LEAST_ADDRESSES:
        sys.exit(f"medsynth {command}: error: {MEMORY_TO_START}.")
    try:
        from medsynth.cli.compose import start  # here, where it can be said that there is no memory for it
    except (ImportError, MemoryError, OSError, SystemError) as error:
        # Python's compiler raises SystemError where it has no memory left.
        if not (is_lack_of_memory(error) or isinstance(error, SystemError)):
            raise
        sys.exit(f"medsynth {command}: error: {MEMORY_TO_START}.")
    start(command)


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the command that the first argument names, and its arguments; end where there is nothing to run."""
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if word in ("--version", "-V", "version"):
        _print_version()
    if word == "completion":
        print(completion())
        sys.exit(0)
    if word == "help" and rest:
        word, rest = rest[0], ["--help", *rest[1:]]
    if word in ("", "-h", "--help", "help"):
        with contextlib.suppress(BrokenPipeError):  # `medsynth help | head`
            print(usage(), flush=True)
        sys.exit(0 if arguments else 2)
    word = ALIASES.get(word, word)
    if word not in COMMANDS:
        print(f"medsynth: error: {unknown_command(word)}", file=sys.stderr)
        sys.exit(2)
    return word, rest


def _checked(command: str, arguments: list[str]) -> list[str]:
    """Return the arguments with flags behind the options and a key before each option; end where a flag is wrong."""
    try:
        return with_keys(command, flags_last(arguments))
    except InputError as error:
        print(f"medsynth {command}: error: {error}", file=sys.stderr)
        sys.exit(1)


def _print_version() -> NoReturn:
    print(f"medsynth {medsynth.__version__}")
    sys.exit(0)


def _addresses() -> float:
    """Return the number of bytes of addresses that the system grants this process (``ulimit -v``)."""
    limit = -1 if resource is None else resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit < 0 else limit
