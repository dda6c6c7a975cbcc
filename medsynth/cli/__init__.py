"""The command line: ``medsynth COMMAND key=value ...``.

Nothing heavy is imported before the configuration is composed, so that --help and typing errors are shown at once.
"""

from __future__ import annotations

import math
import re
import sys

from medsynth.errors import MEMORY_TO_START, is_lack_of_memory

try:
    import resource
except ImportError:  # Windows
    resource = None

# Bytes of addresses with which no command can load its libraries: PyTorch alone takes more. Below, Python's modules and
# OpenBLAS print their own messages, with tracebacks, or end the process.
LEAST_ADDRESSES = 256 * 2**20

COMMANDS = {
    "train": "train a GAN; `python train.py` is the same program",
    "generate": "write images made by a trained generator",
    "sweep": "resume a sweep that was stopped, or retry its failed jobs",
    "search": "look for good options: train with what the results so far suggest",
    "plan": "estimate what a training takes on several devices",
    "report": "write one HTML page of a run or a sweep",
    "evaluate": "measure a trained generator, or one folder of images against another",
    "audit": "find out whether a generator leaks its training images",
    "card": "write the model card of a run: data, composition, what was measured, limits",
    "export": "write a trained generator as a MONAI bundle, ONNX or torch.export",
    "utility": "measure whether generated images help to train a network, against controls",
    "verdict": "say whether a trained generator is faithful, useful and private",
    "backbones": "show the networks that a discriminator can use as its backbone",
    "data": "preview a data set: counts, splits, intensities, duplicates, pictures",
    "pretrain": "train a classifier whose features measure and discriminate",
}


def main(command: str | None = None) -> None:
    """Run ``command`` with the arguments of this process; None: the first argument names it."""
    if command is None:
        arguments = sys.argv[1:]
        if not arguments or arguments[0] in ("-h", "--help"):
            print("Usage: medsynth COMMAND key=value ...\n")
            for name, purpose in COMMANDS.items():
                print(f"  medsynth {name:10} {purpose}")
            print("\n`medsynth COMMAND --help` tells more.")
            sys.exit(0 if arguments else 2)
        command = arguments[0]
        if command not in COMMANDS:
            print(f"medsynth: error: there is no command {command!r}: choose {' or '.join(COMMANDS)}.", file=sys.stderr)
            sys.exit(2)
        del sys.argv[1]
        if command == "report":
            sys.argv[1:] = _named_folders(sys.argv[1:])
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


def _addresses() -> float:
    """Return the number of bytes of addresses that the system grants this process (``ulimit -v``)."""
    limit = -1 if resource is None else resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit < 0 else limit


def _named_folders(arguments: list[str]) -> list[str]:
    """Turn folders that are typed first and without a key into Hydra's ``folders=[...]``."""
    count = next((n for n, a in enumerate(arguments) if a.startswith("-") or "=" in a), len(arguments))
    # In Hydra's quoted strings a backslash is literal except before a quote.
    quoted = [re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), a) for a in arguments[:count]]
    folders = ",".join(f'"{folder}"' for folder in quoted)
    return ([f"folders=[{folders}]"] if count else []) + arguments[count:]
