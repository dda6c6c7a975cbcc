"""Check that a folder is that of a run, before libraries are loaded."""

from __future__ import annotations

from pathlib import Path

from medsynth.errors import InputError
from medsynth.runs.layout import CONFIGURATION


def named_folders(run: str) -> list[Path]:
    """Return the folders of ``run=a`` or ``run=[a,b]``, whose value is text since a folder's name may have brackets."""
    if run.startswith("[") and run.endswith("]") and not Path(run).exists():
        return [Path(name.strip()).expanduser() for name in run[1:-1].split(",") if name.strip()]
    return [Path(run)]


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
