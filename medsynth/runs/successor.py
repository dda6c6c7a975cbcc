"""The run that follows one which the doctor ended, with the override that it proposed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from medsynth.configuration.override_text import override
from medsynth.errors import EndCode
from medsynth.files import write_json
from medsynth.runs.layout import SUMMARY
from medsynth.runs.placement import AUTO
from medsynth.runs.records import read_json
from medsynth.runs.run_folder import RunResult


@dataclasses.dataclass(frozen=True)
class Successor:
    """A run to start: its folder, and the options to type."""

    folder: Path
    typed: tuple[str, ...]


def successor_of(result: RunResult, typed: Sequence[str]) -> Successor | None:
    """Return the run that is to follow, or None where the doctor proposed nothing.

    It has the options of the first, the proposed override behind them, and a folder of its own beside that of the
    first: ``<folder>-2``. It does not act again. None follows a run that was complete before, whose record may be
    anyone's, and none a run that was resumed by its folder, whose options were not typed.

    Args:
        result: of the run that ended.
        typed: its options.
    """
    proposal = result.summary.get("proposal")
    by_folder = any(text.startswith("resume=") and text != f"resume={AUTO}" for text in typed)
    if not proposal or by_folder or result.code != EndCode.COMPLETED:
        return None
    kept = [text for text in typed if not text.startswith(("resume=", "doctor.act="))]
    own = (proposal["override"], "doctor.act=false", override("doctor.predecessor", result.folder))
    number = next(n for n in range(2, 1000) if not result.folder.with_name(f"{result.folder.name}-{n}").exists())
    return Successor(result.folder.with_name(f"{result.folder.name}-{number}"), (*kept, *own))


def link(result: RunResult, successor: Successor) -> None:
    """Record in the summary of the first run which one follows it."""
    path = result.folder / SUMMARY
    write_json(path, {**read_json(path), "successor": str(successor.folder)})
