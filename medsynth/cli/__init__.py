"""The command line: ``medsynth COMMAND key=value ...``. The only code that knows Hydra.

Nothing heavy is imported before the configuration is composed, so that --help and typing errors answer at once.
"""

from __future__ import annotations

import sys

from medsynth.cli.launch import start

COMMANDS = {
    "train": "train a GAN; `python train.py` is the same program",
    "generate": "write images made by a trained generator",
    "evaluate": "measure a trained generator, or one folder of images against another",
    "backbones": "show the networks that a discriminator can stand on",
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
    start(command)
