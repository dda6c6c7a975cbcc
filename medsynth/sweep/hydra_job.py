"""Hydra's call for one job of ``python train.py -m ...``: it trains in a process of its own."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.option_types import with_option_types
from medsynth.configuration.override_text import quoted
from medsynth.configuration.private_paths import overrides_without_paths
from medsynth.runs.run_end import RunEnd
from medsynth.runs.status import COMPLETED, RUNNING, state
from medsynth.sweep.hydra_callback import composition_of
from medsynth.sweep.job import INTERRUPTED, Job, run_job
from medsynth.sweep.keep import discard_checkpoints
from medsynth.sweep.plan import SWEEP_OPTIONS, read_plan
from medsynth.sweep.progress import BAD, progress_line, read_rows
from medsynth.sweep.records import SETTLED, best
from medsynth.sweep.thread_budget import gpu_of, slot, thread_count

# Arguments for Hydra that concern a single run too.
_PASSED_ON = ("hydra.searchpath=", "hydra.job.", "hydra/job_logging=", "hydra.job_logging.", "hydra.verbose=")


def run(config: DictConfig) -> float:
    """Train this job and return the best value of the objective; NaN: the job did not complete.

    A failed job raises nothing: an exception would end Hydra's sweep before its other jobs. ``SweepCallback`` reports
    failures at the end.
    """
    hydra_config = cast(DictConfig, HydraConfig.get())
    folder = Path(hydra_config.runtime.output_dir)
    plan = read_plan(folder.parent, str(folder.parent))
    job = _job(config, hydra_config, folder, plan)
    was_done = state(folder).status in SETTLED
    parallel = _parallel(hydra_config.launcher, len(plan["order"]))
    with slot(folder.parent, parallel) as index:
        record = run_job(
            job,
            threads=config.sweep.threads or thread_count(parallel),
            gpu=gpu_of(index, parallel),
            watch=_orphaned(hydra_config.launcher),
            train=None if config.sweep.processes else _training(config, job),
        )
    discard_checkpoints(folder.parent, config.sweep.keep)
    if not was_done:  # jobs that were done before are counted when the sweep is resumed
        _say(folder.parent, record, plan, parallel)
    done_by = record["number"] if record["status"] == COMPLETED else record.get("same_as")
    value = None if done_by is None else best(folder.parent / str(done_by))
    return math.nan if value is None else value


def _job(config: DictConfig, hydra_config: DictConfig, folder: Path, plan: dict[str, Any]) -> Job:
    typed = [item for item in hydra_config.overrides.task if not item.startswith(SWEEP_OPTIONS)]
    swept = [item for item in typed if item.partition("=")[0] in plan["swept"]]
    number = int(folder.name)
    name = ",".join(swept) or f"job {number}"
    title = ",".join(overrides_without_paths(swept)) or name  # it becomes the run's name in a logging service
    place = [f"sweep.folder={quoted(folder.parent)}", f"sweep.name={quoted(title)}", f"sweep.job={number}"]
    sources = [source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"]
    passed_on = [item for item in hydra_config.overrides.hydra if item.startswith(_PASSED_ON)]
    searched = [part for source in sources for part in ("--config-dir", source)]
    everything = [*searched, *typed, *passed_on, *place, "hydra.mode=RUN"]  # presets ask for a sweep
    return Job(number, folder, name, tuple(swept), tuple(everything), composition_of(config))


def _parallel(launcher: DictConfig, jobs: int) -> int:
    """Return the number of jobs that run on this machine at the same time."""
    if launcher._target_.endswith("JoblibLauncher"):
        n_jobs = launcher.n_jobs if launcher.n_jobs > 0 else cpu_count() + 1 + launcher.n_jobs
        return max(1, min(n_jobs, jobs))
    return jobs if launcher._target_.endswith(".LocalLauncher") else 1  # submitit's starts all at once


def _orphaned(launcher: DictConfig) -> Callable[[], RunEnd | None] | None:
    """Return a watch for a process of joblib, which would outlive the process that started it."""
    if not launcher._target_.endswith("JoblibLauncher"):
        return None
    parent = os.getppid()
    return lambda: None if os.getppid() == parent else INTERRUPTED


def _training(config: DictConfig, job: Job) -> Callable[[], Any]:
    def train() -> None:
        from medsynth.runs.run_folder import Launch  # torch comes with these
        from medsynth.training import train as run_training

        typed = HydraConfig.get().overrides.task
        config_of_job = with_option_types(config, "train", typed)
        title = ",".join(overrides_without_paths(job.overrides)) or job.name
        place = {"folder": str(job.folder.parent), "name": title, "job": job.number}
        OmegaConf.update(config_of_job, "sweep", place)
        run_training(config_of_job, Launch(job.folder, tuple(typed)))

    return train


def _say(sweep: Path, record: dict[str, Any], plan: dict[str, Any], parallel: int) -> None:
    rows = read_rows(sweep)
    if record["status"] == RUNNING:
        print(f"job {record['number']} is running in another process: {record['name']}", flush=True)
        return
    line = progress_line(rows, record["number"], len(plan["jobs"]), plan["objective"], parallel)
    print(line, file=sys.stderr if record["status"] in BAD else sys.stdout, flush=True)
