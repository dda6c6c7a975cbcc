"""Deletion of checkpoints of a sweep by ``sweep.keep=``. Exported generators are always kept."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from filelock import FileLock

from medsynth.errors import InputError
from medsynth.runs.layout import CHECKPOINT, job_folders
from medsynth.runs.status import COMPLETED, state
from medsynth.sweep.job import LOCK, best


def check_keep(keep: object) -> None:
    """Check the option ``sweep.keep``.

    Raises:
        InputError: ``keep`` is not ``all``, ``last`` or a number of jobs.
    """
    number = isinstance(keep, int) and not isinstance(keep, bool) and keep >= 0
    if not number and keep not in ("all", "last"):
        raise InputError(f"sweep.keep={keep} is unknown: choose all, last, or a number of jobs, 0 or more.")


def discard_checkpoints(sweep: Path, keep: str | int) -> None:
    """Delete checkpoints of completed jobs; all other jobs may still be resumed from theirs.

    Args:
        sweep: the folder of the sweep.
        keep: ``all``: delete nothing. ``last``: delete each best.ckpt. A number k: delete all checkpoints except those
            of the k jobs with the lowest objective.
    """
    if keep == "all":
        return
    with FileLock(sweep / LOCK):
        completed = [folder for folder in job_folders(sweep) if state(folder).status == COMPLETED]
        if keep == "last":
            for folder in completed:
                (folder / CHECKPOINT).with_name("best.ckpt").unlink(missing_ok=True)
            return
        ranked = sorted(completed, key=_rank)
        for folder in ranked[int(keep) :]:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree((folder / CHECKPOINT).parent)


def _rank(folder: Path) -> float:
    value = best(folder)
    return float("inf") if value is None or value != value else value
