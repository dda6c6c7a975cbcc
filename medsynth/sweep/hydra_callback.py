"""Hydra's callback of a sweep: checks and plan before the first job, table and report after the last."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.secrets import check_secrets
from medsynth.configuration.trusted_paths import check_links
from medsynth.errors import InputError, Refused
from medsynth.runs.layout import SWEEP
from medsynth.runs.status import COMPLETED, DUPLICATE, MISSING, RUNNING
from medsynth.sweep.job import LOCK, composition_hash
from medsynth.sweep.job_checks import JobChecks
from medsynth.sweep.job_composition import JobComposer
from medsynth.sweep.keep import check_keep
from medsynth.sweep.plan import (
    SWEEP_OPTIONS,
    extended,
    is_running,
    makes_recorded_jobs,
    new_plan,
    read_plan,
    same_arguments,
    states,
    write_plan,
)
from medsynth.sweep.progress import job_table, read_rows, status_counts
from medsynth.sweep.recorded_arguments import check_jobs, without_trust
from medsynth.sweep.records import SETTLED

# Entries of a configuration that do not change what is trained: where the run's files are, how it is logged ...
_NOT_TRAINED = (
    "hydra",
    "run_dir",
    "resume",
    "resume_data",
    "trust",
    "overrides",
    "sweep",
    "report",
    "figures",
    "logger",
)


class SweepCallback(Callback):
    """Writes sweep.json before the first job; prints a table and writes report.html after the last."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Compose and check every job, write the plan, and print the number of jobs."""
        try:
            check_keep(config.sweep.keep)
            _check_options(config)
            check_secrets(config)
            new, checks = _plan(config)
            folder = Path(config.hydra.sweep.dir)
            if config.sweep.resume:
                check_links(folder, trusted=config.trust)
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / LOCK):  # another process may start a sweep there
                plan = _resumed(folder, new, checks, config.trust) if config.sweep.resume else _fresh(folder, new)
                write_plan(folder, plan)
            _announce(folder, plan, bool(config.sweep.resume))
        except Exception as error:
            raise Refused from error

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table, write the report, and raise where a job did not complete, so that the exit code is 1."""
        try:
            self._finish(config)
        except Exception as error:
            raise Refused from error

    def _finish(self, config: DictConfig) -> None:
        folder = Path(config.hydra.sweep.dir)
        plan = read_plan(folder, str(folder))
        write_plan(folder, plan | {"finished": time.time()})
        print("\n" + job_table(read_rows(folder), plan["objective"]), flush=True)
        report = _report(folder) if config.report is not False else None
        if report:
            print(f"\nThe report is {report}", flush=True)
        statuses = [status for status, _ in states(folder, plan)]
        failed = [status for status in statuses if status not in (COMPLETED, DUPLICATE, RUNNING)]
        if failed:
            sentence = f"{len(failed)} of {len(statuses)} jobs did not complete ({status_counts(failed)})"
            raise InputError(
                f"{sentence}: their reasons are in the table above and in {report or folder / '*/job.json'}."
            )


def composition_of(config: DictConfig) -> str:
    """Return a hash of the training that ``config`` describes; equal hashes are duplicates."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    return composition_hash({key: value for key, value in plain.items() if key not in _NOT_TRAINED})


def _plan(config: DictConfig) -> tuple[dict[str, Any], JobChecks]:
    """Compose every job, so that a fault of any of them is found before the first one starts; return plan and jobs."""
    loader = GlobalHydra.instance().config_loader()
    typed = list(config.hydra.overrides.task)
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*params, *typed])
    jobs = BasicSweeper.split_arguments(overrides, None)[0]
    columns = zip(*jobs, strict=True)  # one for each option
    swept = [column[0].partition("=")[0] for column in columns if len(set(column)) > 1]
    here = not config.hydra.launcher._target_.endswith(".SlurmLauncher")
    checks = JobChecks(JobComposer(loader, config), jobs, here=here)
    checks.compose(checked=not config.sweep.resume)  # else which jobs are new is seen in the folder first
    composed = [checks.composed[position] for position in range(len(jobs))]
    compositions = [composition_of(job) for job in composed]
    jobs = [[item for item in job if not item.startswith(SWEEP_OPTIONS)] for job in jobs]
    plan = new_plan(_arguments(config), jobs, compositions, swept)
    objectives = {str(job.objective) for job in composed}  # a task brings its own
    objective = {"objective": objectives.pop()} if len(objectives) == 1 else {}
    return plan | objective, checks


def _arguments(config: DictConfig) -> list[str]:
    """Return the arguments that start the same sweep again, without its folder."""
    folders = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    typed = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
    typed = [item for item in typed if not item.startswith(("hydra.mode=", "hydra.sweep.dir=", "sweep.resume="))]
    return [part for folder in folders for part in ("--config-dir", folder)] + without_trust(typed)


def _check_options(config: DictConfig) -> None:
    if config.report not in ("auto", True, False):
        raise InputError(f"report={config.report} is unknown: choose auto, true or false.")
    threads = config.sweep.threads
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InputError(f"sweep.threads={threads} is not allowed: give a number of threads, 1 or more, or null.")
    if config.resume is not None:
        raise InputError(f"resume={config.resume} resumes a single run: resume a sweep by sweep.resume=true.")
    if any(item.startswith("hydra.sweep.subdir=") for item in config.hydra.overrides.hydra):
        raise InputError(
            "hydra.sweep.subdir= cannot be set: the folders of a sweep's jobs are their numbers. Leave it out."
        )
    if any(item.startswith("vary=") and "," in item and "[" not in item for item in config.hydra.overrides.task):
        raise InputError("vary= is given several presets: write them as a list, vary=[seeds,losses].")


def _fresh(folder: Path, new: dict[str, Any]) -> dict[str, Any]:
    if (folder / SWEEP).exists():
        raise InputError(f"{folder} already holds a sweep: resume it by sweep.resume={folder}.")
    return new


def _resumed(folder: Path, new: dict[str, Any], checks: JobChecks, trusted: bool) -> dict[str, Any]:
    """Return the plan in ``folder``, extended by ``new``.

    Whether its jobs do harm, and whether those that were never started can be trained, is checked before any starts.
    """
    old = read_plan(folder, f"sweep.resume={folder}")
    if not same_arguments(old["arguments"], new["arguments"]) and is_running(folder, old):
        raise InputError(f"The sweep {folder} is still running: wait for its end before you add jobs to it.")
    same = same_arguments(old["arguments"], new["arguments"])
    if same and not makes_recorded_jobs(new, old):
        raise InputError(
            f"{folder / SWEEP} is damaged: its arguments do not make its jobs. Type the sweep's command again with its "
            f"options, train.py -m ... sweep.resume={folder}."
        )
    plan = extended(old, new)
    if same and len(plan["jobs"]) > len(old["jobs"]):
        print(
            "These arguments now describe other trainings than before, since medsynth or your configuration files have "
            "changed: they are added as new jobs.",
            flush=True,
        )
    presents = {number: checks.composed[position] for position, number in enumerate(plan["order"])}
    check_jobs(folder, presents, trusted=trusted)
    statuses = [status for status, _ in states(folder, plan)]
    checks.check(position for position, status in enumerate(statuses) if status == MISSING)
    if all(status in (*SETTLED, RUNNING) for status in statuses):
        raise InputError(f"The sweep {folder} has nothing left to do: {status_counts(statuses)}.")
    return plan


def _announce(folder: Path, plan: dict[str, Any], resumed: bool) -> None:
    total = len(plan["order"])
    statuses = [status for status, _ in states(folder, plan)]
    done = sum(status in SETTLED for status in statuses)
    again = sum(status not in (*SETTLED, RUNNING, MISSING) for status in statuses)
    jobs = f"{total} jobs over {', '.join(plan['swept'])}" if plan["swept"] else "1 job"
    if resumed:
        jobs += f"; {done} are done, {again} are resumed or repeated, {total - done - again} are new"
    print(f"{jobs}. All files are in {folder}; `medsynth sweep resume={folder}` resumes the sweep.", flush=True)


def _report(folder: Path) -> Path | None:
    """Write the sweep's report and return its path; None, with a message: it could not be written."""
    try:
        from medsynth.report.page import write_report  # plotly comes with it

        return write_report([folder], folder / "report.html")
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        print(f"The report could not be written: {type(error).__name__}: {first}", flush=True)
        return None
