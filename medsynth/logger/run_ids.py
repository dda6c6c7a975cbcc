"""IDs under which logging services know the run of a folder, so that a resumed run continues the same one there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsynth.configuration.plain_names import is_plain
from medsynth.files import write_json
from medsynth.runs.records import read_json

FILE = "loggers.json"


def save_id(folder: Path, service: str, **identity: Any) -> None:
    """Write the ID, and what else identifies the run in ``service``, to loggers.json in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, read_json(folder / FILE) | {service: identity})


def load_id(folder: Path, service: str) -> dict[str, Any]:
    """Return what ``save_id`` wrote for this folder's run; empty if there is nothing, or no ID that is a plain word."""
    identity = read_json(folder / FILE).get(service)
    if not isinstance(identity, dict) or not is_plain(identity.get("id")):
        return {}
    return {key: value for key, value in identity.items() if isinstance(value, str)}


def is_resumed(overrides: Sequence[str]) -> bool:
    """Tell whether the options resume a run. A run started anew in the same folder gets an ID of its own."""
    return any(override.startswith("resume=") and override != "resume=null" for override in overrides)


def group_of(sweep: str | None) -> str | None:
    """Return the group of a sweep's jobs: the last two parts of its folder, date and time by default."""
    return "/".join(Path(sweep).parts[-2:]) if sweep else None
