"""Launchers of this process: torchrun or SLURM, or none.

Nothing heavy is imported here, since the command line needs it before it composes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Mapping

from medsynth.runs.status import slurm_job

_log = logging.getLogger(__name__)


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that torchrun or SLURM has started, this one included."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        # Without srun, a SLURM job has no SLURM_PROCID by which its processes could be told apart.
        if environment.get(name) and (name == "WORLD_SIZE" or "SLURM_STEP_ID" in environment):
            return int(environment[name])
    return 1


def started_by_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this is one of several processes that torchrun or SLURM has started."""
    return world_size(environment) > 1


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of this process among those of the training, 0 for the first or only one."""
    if not started_by_launcher(environment):
        return 0
    return int(environment.get("RANK") or environment.get("SLURM_PROCID") or 0)


def silence() -> None:
    """Turn off logging and warnings in a process that would only repeat those of the first one."""
    logging.disable()
    warnings.simplefilter("ignore")


def slurm_name() -> str | None:
    """Return the name of this SLURM job, ``slurm-<job>``, or of a later step of it, ``slurm-<job>.<step>``.

    It is the same in all processes of the job and after a requeue. None: this is not a SLURM job, or torchrun starts
    its processes.
    """
    job, step = slurm_job(), os.environ.get("SLURM_STEP_ID", "0")
    if job is None or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    return f"slurm-{job[0]}" if step == "0" else f"slurm-{job[0]}.{step}"


def started_again() -> bool:
    """Tell whether SLURM has requeued this job before."""
    job = slurm_job()
    return job is not None and job[1] > 0


def requeue(environment: Mapping[str, str] = os.environ) -> bool:
    """Ask SLURM to requeue this job; return whether it was asked. Without SLURM nothing happens.

    SLURM ends the job at once, so that a process must do this last; the request may take half a minute.
    """
    job = environment.get("SLURM_JOB_ID")
    if environment.get("SLURM_ARRAY_JOB_ID"):
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '0')}"
    if not job:
        return False
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN) if in_main else None
    reply: subprocess.CompletedProcess[bytes] | None = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        reply = subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=30)
    if reply is None or reply.returncode:
        if in_main:
            signal.signal(signal.SIGTERM, before)
        _log.warning("SLURM refused to requeue job %s: submit it again, with resume=.", job)
    return True
