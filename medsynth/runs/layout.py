"""Files in the folder of a run or a sweep, for the code that writes, resumes or reports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medsynth.untrusted_files import UnreadableFile, load_json

SUMMARY = "summary.json"  # by the run itself: its process at the start, its end and numbers at the end
JOB = "job.json"  # by the process that started a sweep's job, also where the job was killed
CONFIGURATION = "config.yaml"  # everything resolved, for people and programs to read
COMPOSITION = "composition.yaml"  # with its interpolations; a resumed run starts from it
METRICS = "metrics.csv"
LOG = "train.log"
CHECKPOINT = "checkpoints/last.ckpt"
GENERATOR = "generator.safetensors"  # the best averaged generator
REPORT = "report.html"
FEATURES = "feature_cache"  # of the real images by a frozen backbone; deleted when the run completes
EARLIER_FEATURES = "feature_bank"  # the name of that folder in runs of earlier versions
SWEEP = "sweep.json"  # in the folder of a sweep, above those of its jobs


def log_tail(folder: Path, lines: int = 20) -> list[str]:
    """Return the last lines of the run's log; empty without a log."""
    try:
        text = (folder / LOG).read_text(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]


def job_folders(sweep: Path) -> list[Path]:
    """Return the folders of a sweep's runs, whose names are numbers, in order."""
    return [sweep / str(number) for number in job_numbers(sweep)]


def job_numbers(sweep: Path) -> list[int]:
    """Return the numbers that are names of folders in a sweep, in order."""
    with os.scandir(sweep) as entries:
        names = [entry.name for entry in entries if entry.name.isdecimal() and entry.is_dir()]
    return sorted(int(name) for name in names if str(int(name)) == name)


def older(path: Path, number: int) -> Path:
    """Return the path of the checkpoint written ``number`` times before the one at ``path``: last-1.ckpt, ..."""
    return path.with_stem(f"{path.stem}-{number}") if number else path


def older_ones(path: Path) -> list[Path]:
    """Return the existing checkpoints of ``path``, the newest first."""
    numbered = [(int(p.stem.rpartition("-")[2]), p) for p in path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}")]
    return [p for p in (path, *(p for _, p in sorted(numbered))) if p.is_file()]


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
