"""In which state a run is, by what its process and a sweep have written of it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from medsynth.runs.layout import JOB, LOG, METRICS, SUMMARY, read_json

COMPLETED, RUNNING, STOPPED, DIVERGED = "completed", "running", "stopped", "diverged"
FAILED, KILLED, DUPLICATE, MISSING = "failed", "killed", "duplicate", "missing"
STATUSES = (COMPLETED, RUNNING, STOPPED, DIVERGED, FAILED, KILLED, DUPLICATE, MISSING)
SILENT = 600.0  # seconds without a sign of life after which a run on another machine counts as killed


class State(NamedTuple):
    """One of ``STATUSES``, and in a sentence why the run did not complete (None: it did, or still runs)."""

    status: str
    reason: str | None


def state(folder: Path) -> State:
    """Of the run in ``folder``: what its process wrote last, or what a sweep wrote of it, or that it is gone."""
    job, summary = read_json(folder / JOB), read_json(folder / SUMMARY)
    by_hand = _number(summary, "process", "started") > _number(job, "started") + _number(job, "seconds")  # since then
    for record in [summary] if by_hand else [job, summary]:
        if record.get("status") in STATUSES and record["status"] != RUNNING:
            return State(record["status"], record.get("reason"))
    running = summary or job
    if not running:
        return State(MISSING, "it was never started")
    if _alive(running.get("process"), folder):
        return State(RUNNING, None)
    return State(KILLED, "its process ended without a word")


def this_process() -> dict[str, Any]:
    """What ``state`` recognizes a living run by."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time(), "slurm": slurm_job()}


def slurm_job() -> list[int] | None:
    """The job of SLURM that this process belongs to, and how often SLURM has started it again."""
    job, again = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT") or 0
    return [int(job), int(again)] if job else None


def _number(record: Any, *keys: str) -> float:
    """What is there under these keys, one below the other; 0 where that is no number."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return float(record) if isinstance(record, int | float) else 0.0


def _alive(process: Any, folder: Path) -> bool:
    before, now = process.get("slurm") if isinstance(process, dict) else None, slurm_job()
    if before and now and before[0] == now[0] and before[1] < now[1]:
        return False  # SLURM ends all of a job before it starts it again, also where it has lost the node
    if isinstance(process, dict) and process.get("host") == socket.gethostname():
        return _answers(int(_number(process, "pid")))
    signs = [path.stat().st_mtime for path in (folder / METRICS, folder / LOG, folder / SUMMARY) if path.is_file()]
    return bool(signs) and time.time() - max(signs) < SILENT


def _answers(pid: int) -> bool:
    if pid < 1:  # would be a group of processes
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
