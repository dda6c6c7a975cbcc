"""Reading of the JSON records of runs and sweeps; entries of other types than are written there count as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth.runs.layout import JOB, SUMMARY, SWEEP
from medsynth.untrusted_files import UnreadableFile, load_json

_PROCESS = {"host": "text", "pid": "count", "started": "number", "slurm": "list of count?"}
_END = {"status": "text", "code": "text?", "reason": "text?", "requeue": "flag", "process": _PROCESS}
# Types of the entries that are read; a question mark: or null; an asterisk: all others.
_RECORDS: dict[str, dict[str, Any]] = {
    SUMMARY: {
        **_END,
        "images_seen": "count",
        "seconds": "number",
        "images_per_second": "number",
        "best": {"objective": "text?", "value": "number?", "images_seen": "count?"},
        "metrics": {"*": "number?"},
        "parameters": {"*": "number"},
        "weights": {"*": "number"},  # as parameters; version 0.1
        "files": {"*": "text"},
        "better": {"*": "text"},
    },
    JOB: {
        **_END,
        "number": "count",
        "name": "text",
        "overrides": "list of text",
        "composition": "text?",
        "exit_code": "number?",
        "attempts": "count",
        "started": "number",
        "seconds": "number",
        "seconds_before": "number",
        "same_as": "count?",
    },
    SWEEP: {
        "arguments": "list of text",
        "directory": "text",
        "jobs": "list of list of text",
        "compositions": "list of text",
        "order": "list of count",
        "swept": "list of text",
        "objective": "text?",
        "started": "number",
        "finished": "number?",
        "process": _PROCESS,
        "search": {},
    },
}


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file; empty where the file is missing or damaged.

    Of a record that medsynth knows (summary.json, job.json, sweep.json) entries of another type than it writes are left
    out.
    """
    try:
        content = load_json(path)
    except (OSError, UnreadableFile):
        return {}
    return typed(content, _RECORDS.get(path.name, {})) if isinstance(content, dict) else {}


def typed(record: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    """Return ``record`` without the entries that are not of their type in ``types``; entries unknown there stay."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        kind = types.get(name, types.get("*"))
        if isinstance(kind, dict):
            if isinstance(value, dict):
                found[name] = typed(value, kind)
        elif kind is None or _is(value, kind):
            found[name] = value
    return found


def _is(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    kind = kind.rstrip("?")
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18
    if kind == "count":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if kind == "text":
        return isinstance(value, str)
    if kind == "flag":
        return isinstance(value, bool)
    items = value if isinstance(value, list) else [None]
    return all(_is(item, kind.removeprefix("list of ")) for item in items)
