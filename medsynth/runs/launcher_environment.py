"""How this process was started: alone, as one of torchrun's, or by SLURM, perhaps not for the first time.

Nothing heavy is imported here: the command line asks before it composes.
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
from typing import Any

from medsynth.runs.status import slurm_job

_log = logging.getLogger(__name__)


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """The number of processes that torchrun or SLURM has started with this one."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        # A job of SLURM that was not started by srun has no SLURM_PROCID of its own to tell it from others.
        if environment.get(name) and (name == "WORLD_SIZE" or "SLURM_STEP_ID" in environment):
            return int(environment[name])
    return 1


def started_by_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of several processes that torchrun or SLURM has started."""
    return world_size(environment) > 1


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Of this process among those of the training."""
    if not started_by_launcher(environment):
        return 0
    return int(environment.get("RANK") or environment.get("SLURM_PROCID") or 0)


def silence() -> None:
    """For processes that would only say once more what the first one says."""
    logging.disable()
    warnings.simplefilter("ignore")


def slurm_name() -> str | None:
    """What all processes of a job call it, also when it is started again: ``slurm-<job>``, and the later of its steps
    ``slurm-<job>.<step>``.

    None: not in a job of SLURM, or in one that torchrun has divided.
    """
    job, step = slurm_job(), os.environ.get("SLURM_STEP_ID", "0")
    if job is None or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    return f"slurm-{job[0]}" if step == "0" else f"slurm-{job[0]}.{step}"


def started_again() -> bool:
    """Whether SLURM has put this job back into its queue before."""
    job = slurm_job()
    return job is not None and job[1] > 0


def requeue(environment: Mapping[str, str] = os.environ) -> bool:
    """Ask SLURM to start this job again; whether it was asked. Without SLURM nothing happens.

    SLURM ends the job at once, so that this must be the last that a process does; half a minute is left to it.
    """
    job = environment.get("SLURM_JOB_ID")
    if environment.get("SLURM_ARRAY_JOB_ID"):
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '0')}"
    if not job:
        return False
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN) if in_main else None
    answer: Any = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=30)
    if answer is None or answer.returncode:
        if in_main:
            signal.signal(signal.SIGTERM, before)
        _log.warning("SLURM did not take job %s back into its queue: submit it again, with resume=.", job)
    return True
