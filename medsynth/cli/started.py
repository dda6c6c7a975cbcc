"""How this process was started: alone, as one of torchrun's, or by SLURM, perhaps not for the first time.

Nothing heavy is imported here: the command line asks before it composes.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping

from medsynth.run_folder import slurm_job


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


def say_nothing() -> None:
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
