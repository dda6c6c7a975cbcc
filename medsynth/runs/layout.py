"""Files in the folder of a run or a sweep, for the code that writes, resumes or reports it."""

from __future__ import annotations

import os
from pathlib import Path

SUMMARY = "summary.json"  # by the run itself: its process at the start, its end and numbers at the end
JOB = "job.json"  # by the process that started a sweep's job, also where the job was killed
CONFIGURATION = "config.yaml"  # everything resolved, for people and programs to read
COMPOSITION = "composition.yaml"  # with its interpolations; a resumed run starts from it
METRICS = "metrics.csv"
DIAGNOSIS = "diagnosis.jsonl"  # the doctor's signals, one row for each validation
LOG = "train.log"
CHECKPOINT = "checkpoints/last.ckpt"
GENERATOR = "generator.safetensors"  # the best averaged generator
REPORT = "report.html"
TRANSLATED = "translated.png"  # among the samples of a run that translates
RECONSTRUCTED = "reconstructed.png"  # among the samples of a run with an encoder
FEATURES = "feature_cache"  # of the real images by a frozen backbone; deleted when the run completes
EARLIER_FEATURES = "feature_bank"  # the name of that folder in runs of earlier versions
SWEEP = "sweep.json"  # in the folder of a sweep, above those of its jobs


def record_path(run: Path, kind: str, checkpoint: str | None) -> Path:
    """Return the place in a run's folder of what was measured of a generator: ``evaluation/generator.json``.

    Args:
        run: the folder.
        kind: ``evaluation``, ``utility`` or ``audit``.
        checkpoint: name or path of the checkpoint that the generator is of; None: the exported one.
    """
    return run / kind / f"{Path(checkpoint).stem if checkpoint else 'generator'}.json"


def log_tail(folder: Path, lines: int = 20) -> list[str]:
    """Return the last lines of the run's log; empty without a log."""
    try:
        text = (folder / LOG).read_text(errors="replace", encoding="utf-8")
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
