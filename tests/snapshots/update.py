"""Store what README's commands compose to today: ``python -m tests.snapshots.update``, after a change that is meant.

``--new`` records only the commands that have no record yet. A complete update makes the list of intended differences
in ``differences.py`` superfluous: empty it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.snapshots import record

SNAPSHOT = Path(__file__).with_name("readme.json")
RUNS = {
    "run": ("hydra.run.dir=run",),
    "sweep": ("--multirun", "hydra.sweep.dir=sweep", "sweep.processes=false", "seed=1,2"),
}


def describe(command: str, base: Sequence[str]) -> dict[str, Any]:
    """Return the lines in which a command's composition differs from ``base``, its program's, and its exit code."""
    with record.empty_folder():
        own = record.composition(command)
        difference = {"removed": sorted({*base} - {*own}), "added": sorted({*own} - {*base})} if own else {}
        return difference | {"exit_code": record.exit_code(command)}


def _main() -> None:
    stored = json.loads(SNAPSHOT.read_text()) if "--new" in sys.argv else {"base": {}, "commands": {}, "files": {}}
    for command in record.commands(record.README.read_text()):
        if command not in stored["commands"]:
            base = record.base_of(command)
            if base not in stored["base"]:
                with record.empty_folder():
                    stored["base"][base] = record.composition(base)
            stored["commands"][command] = describe(command, stored["base"][base])
    for name, arguments in RUNS.items():
        if name not in stored["files"]:
            with record.empty_folder():
                stored["files"][name] = record.written(*arguments)
    SNAPSHOT.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    _main()
