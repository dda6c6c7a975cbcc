"""Deletion of checkpoints of a sweep by ``sweep.keep=``. Exported generators are always kept."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from filelock import FileLock

from medsynth.errors import InputError
from medsynth.runs.layout import CHECKPOINT
from medsynth.runs.status import COMPLETED
from medsynth.sweep.job import LOCK
from medsynth.sweep.records import read_jobs

# By the sweep's folder and keep=: jobs whose checkpoints this process has deleted. It does not look for them again.
_discarded: dict[tuple[str, str | int], set[int]] = {}


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
        completed = {n: record for n, record in read_jobs(sweep).items() if record.state.status == COMPLETED}
        kept = 0 if keep == "last" else int(keep)
        discarded = _discarded.setdefault((os.fspath(sweep.absolute()), keep), set())
        for number in sorted(completed, key=lambda number: _rank(completed[number].best))[kept:]:
            if number not in discarded:
                _discard((sweep / str(number) / CHECKPOINT).parent, keep)
                discarded.add(number)


def _discard(checkpoints: Path, keep: str | int) -> None:
    if keep == "last":
        (checkpoints / "best.ckpt").unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(checkpoints)


def _rank(best: float | None) -> float:
    return float("inf") if best is None or best != best else best
