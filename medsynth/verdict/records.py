"""The stored records of a run that a verdict is given on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth.errors import InputError
from medsynth.report.evaluation import read_evaluations
from medsynth.runs.records import read_json

FOLDERS = {"evaluate": "evaluation", "utility": "utility", "audit": "audit"}  # in a run's folder, by command


def newest(run: Path, command: str) -> Mapping[str, Any] | None:
    """Return the newest whole record of a command in the folder of a run; None: there is none.

    A record of an evaluation is whole if it has a classifier two-sample test, which earlier versions did not measure.
    """
    folder = run / FOLDERS[command]
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    if command == "evaluate":
        whole = {record["file"]: record for record in read_evaluations(run)}
        found = [whole[path.name] for path in paths if path.name in whole]
        return next((record for record in found if _has_two_sample_test(record)), None)
    return next((record for path in paths if "answer" in (record := read_json(path))), None)


def read(path: Path, command: str) -> Mapping[str, Any]:
    """Return the record in a file that the user names.

    Raises:
        InputError: there is none.
    """
    record = read_json(path)
    if not (isinstance(record.get("measures"), list) if command == "evaluate" else "answer" in record):
        raise InputError(f"{FOLDERS[command]}={path} is no record of medsynth {command}: name the JSON file it wrote.")
    return record


def _has_two_sample_test(record: Mapping[str, Any]) -> bool:
    return any(str(row.get("name")).startswith("c2st_") for row in record["measures"])
