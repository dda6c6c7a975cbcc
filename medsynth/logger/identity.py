"""Under which name a service knows the run of a folder, so that a resumed run goes on in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsynth.files import replacing
from medsynth.runs.layout import read_json

FILE = "loggers.json"


def remember(folder: Path, service: str, **identity: Any) -> None:
    """Write what ``recall`` finds again."""
    folder.mkdir(parents=True, exist_ok=True)
    known = read_json(folder / FILE) | {service: identity}
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(known, indent=2) + "\n")


def recall(folder: Path, service: str) -> dict[str, Any]:
    """What was remembered of this folder's run; empty where that is nothing."""
    return read_json(folder / FILE).get(service, {})


def is_resumed(overrides: Sequence[str]) -> bool:
    """Whether what was typed goes on with a run. A run begun anew in the same folder is a run of its own."""
    return any(override.startswith("resume=") and override != "resume=null" for override in overrides)


def group_of(sweep: str | None) -> str | None:
    """The name that the jobs of a sweep share: of a folder the last two parts, which are date and time by default."""
    return "/".join(Path(sweep).parts[-2:]) if sweep else None
