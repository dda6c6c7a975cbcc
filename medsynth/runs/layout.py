"""Files in the folder of a run or a sweep, for the code that writes, resumes or reports it."""

from __future__ import annotations

import re
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
    found = [path for path in sweep.iterdir() if path.is_dir() and re.fullmatch(r"\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name))


def older(path: Path, number: int) -> Path:
    """Return the path of the checkpoint written ``number`` times before the one at ``path``: last-1.ckpt, ..."""
    return path.with_stem(f"{path.stem}-{number}") if number else path


def older_ones(path: Path) -> list[Path]:
    """Return the existing checkpoints of ``path``, the newest first."""
    numbered = [(int(p.stem.rpartition("-")[2]), p) for p in path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}")]
    return [p for p in (path, *(p for _, p in sorted(numbered))) if p.is_file()]


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file; empty where the file is missing or damaged."""
    try:
        content = load_json(path)
    except (OSError, UnreadableFile):
        return {}
    return content if isinstance(content, dict) else {}
