"""Status of a run, from the records that its process and a sweep have written."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from medsynth.runs.layout import JOB, LOG, METRICS, SUMMARY
from medsynth.runs.records import read_json

COMPLETED, RUNNING, STOPPED, DIVERGED = "completed", "running", "stopped", "diverged"
FAILED, KILLED, DUPLICATE, MISSING = "failed", "killed", "duplicate", "missing"
STATUSES = (COMPLETED, RUNNING, STOPPED, DIVERGED, FAILED, KILLED, DUPLICATE, MISSING)
SILENT = 600.0  # seconds without a write after which a run on another machine counts as killed


class State(NamedTuple):
    """One of ``STATUSES``, and one sentence on why the run did not complete (None: it did, or is still running)."""

    status: str
    reason: str | None


def state(folder: Path) -> State:
    """Determine the status of the run in ``folder`` from its records, or from its process where it has not ended."""
    job, summary = read_json(folder / JOB), read_json(folder / SUMMARY)
    resumed_later = _number(summary, "process", "started") > _number(job, "started") + _number(
        job, "seconds"
    )  # outside of the sweep
    for record in [summary] if resumed_later else [job, summary]:
        if record.get("status") in STATUSES and record["status"] != RUNNING:
            return State(record["status"], record.get("reason"))
    running = summary or job
    if not running:
        return State(MISSING, "it was never started")
    if _alive(running.get("process"), folder):
        return State(RUNNING, None)
    return State(KILLED, "its process ended without recording why")


def this_process() -> dict[str, Any]:
    """Describe this process so that ``state`` can find out whether it is alive."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time(), "slurm": slurm_job()}


def slurm_job() -> list[int] | None:
    """Return the SLURM job of this process and the number of its requeues; None: there is no SLURM job."""
    job, again = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT") or 0
    return [int(job), int(again)] if job else None


def _number(record: Any, *keys: str) -> float:
    """Return the number under nested ``keys``; 0 where there is none."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return float(record) if isinstance(record, int | float) else 0.0


def _alive(process: Any, folder: Path) -> bool:
    before, now = process.get("slurm") if isinstance(process, dict) else None, slurm_job()
    if before and now and before[0] == now[0] and before[1] < now[1]:
        return False  # SLURM ends all of a job before it requeues it, also where a node was lost
    if isinstance(process, dict) and process.get("host") == socket.gethostname():
        return _exists(int(_number(process, "pid")))
    written = [path.stat().st_mtime for path in (folder / METRICS, folder / LOG, folder / SUMMARY) if path.is_file()]
    return bool(written) and time.time() - max(written) < SILENT


def _exists(pid: int) -> bool:
    if pid < 1:  # would be a group of processes
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
