"""Check that a folder is that of a run, before libraries are loaded."""

from __future__ import annotations

from pathlib import Path

from medsynth.errors import InputError
from medsynth.runs.layout import CONFIGURATION


def require_run(folder: Path) -> Path:
    """Return the path of a run's configuration.

    Raises:
        InputError: ``folder`` is not that of a run.
    """
    path = folder / CONFIGURATION
    if not path.is_file():
        reason = f"it holds no {CONFIGURATION}" if folder.exists() else "it does not exist"
        raise InputError(
            f"run={folder} is not the folder of a run: {reason}. Name one such as run=outputs/2026-01-31/12-00-00."
        )
    return path
