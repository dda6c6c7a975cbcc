"""Before a sweep's first job and after its last: what it consists of, and what it came to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.objectives import check_objectives
from medsynth.configuration.secrets import check_secrets
from medsynth.errors import InputError, Refused
from medsynth.runs.layout import SWEEP
from medsynth.runs.status import COMPLETED, DUPLICATE, MISSING, RUNNING
from medsynth.sweep.job import SETTLED, composition_hash
from medsynth.sweep.keep import check_keep
from medsynth.sweep.plan import (
    SWEEP_OPTIONS,
    extended,
    is_running,
    new_plan,
    read_plan,
    same_arguments,
    states,
    write_plan,
)
from medsynth.sweep.progress import count_words, read_rows, table

# Of a configuration: where it lands, how it is watched, and whose job it is do not change what is trained.
_ASIDE = ("hydra", "run_dir", "resume", "resume_data", "trust", "overrides", "sweep", "report", "logger")


class SweepCallback(Callback):
    """Writes sweep.json before the first job; prints a table and writes report.html after the last."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot be done before anything is trained; says how many jobs there are."""
        try:
            check_keep(config.sweep.keep)
            _check_options(config)
            check_secrets(config)
            new = _plan(config)
            folder = Path(config.hydra.sweep.dir)
            plan = _resumed(folder, new) if config.sweep.resume else _fresh(folder, new)
            write_plan(folder, plan)
            _announce(folder, plan, bool(config.sweep.resume))
        except Exception as error:
            raise Refused from error

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """The table, the report, and by an error the exit code where not all jobs completed."""
        folder = Path(config.hydra.sweep.dir)
        plan = read_plan(folder, str(folder))
        write_plan(folder, plan | {"finished": time.time()})
        print("\n" + table(read_rows(folder), plan["objective"]), flush=True)
        report = _report(folder) if config.report is not False else None
        if report:
            print(f"\nThe report is {report}", flush=True)
        statuses = [status for status, _ in states(folder, plan)]
        failed = [status for status in statuses if status not in (COMPLETED, DUPLICATE, RUNNING)]
        if failed:
            words = f"{len(failed)} of {len(statuses)} jobs did not complete ({count_words(failed)})"
            error = InputError(
                f"{words}: their reasons are in the table above and in {report or folder / '*/job.json'}."
            )
            raise Refused from error


def composition_of(config: DictConfig) -> str:
    """Hash of what is trained by ``config``, before anything in it is filled in."""
    plain = OmegaConf.to_container(config, resolve=False)
    return composition_hash({key: value for key, value in plain.items() if key not in _ASIDE})


def _plan(config: DictConfig) -> dict[str, Any]:
    """Every job, composed: a typo in any of them is found before the first starts."""
    loader = GlobalHydra.instance().config_loader()
    typed = list(config.hydra.overrides.task)
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*params, *typed])
    jobs = BasicSweeper.split_arguments(overrides, None)[0]
    columns = zip(*jobs, strict=True)  # an option each, as all jobs have it
    swept = [column[0].partition("=")[0] for column in columns if len(set(column)) > 1]
    composed = [loader.load_sweep_config(config, list(job)) for job in jobs]
    for job, composition in zip(jobs, composed, strict=True):
        check_objectives(composition, overrides=job)
    compositions = [composition_of(job) for job in composed]
    jobs = [[item for item in job if not item.startswith(SWEEP_OPTIONS)] for job in jobs]
    return new_plan(_arguments(config), jobs, compositions, swept) | {"objective": config.objective}


def _arguments(config: DictConfig) -> list[str]:
    """What was typed, to start the same sweep again; without where it lands."""
    folders = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    typed = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
    typed = [item for item in typed if not item.startswith(("hydra.mode=", "hydra.sweep.dir=", "sweep.resume="))]
    return [part for folder in folders for part in ("--config-dir", folder)] + typed


def _check_options(config: DictConfig) -> None:
    if config.report not in ("auto", True, False):
        raise InputError(f"report={config.report} is not known: choose auto, true or false.")
    threads = config.sweep.threads
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InputError(f"sweep.threads={threads} is not a number of threads, 1 or more, or null.")
    if config.resume is not None:
        raise InputError(f"resume={config.resume} is for a single run: a sweep goes on by sweep.resume=true.")
    if any(item.startswith("hydra.sweep.subdir=") for item in config.hydra.overrides.hydra):
        raise InputError("hydra.sweep.subdir= cannot be set: the folders of a sweep's jobs are their numbers.")
    if any(item.startswith("vary=") and "," in item and "[" not in item for item in config.hydra.overrides.task):
        raise InputError("vary= is given several presets: write them as a list, vary=[seeds,losses].")


def _fresh(folder: Path, new: dict[str, Any]) -> dict[str, Any]:
    if (folder / SWEEP).exists():
        raise InputError(f"{folder} already holds a sweep: sweep.resume={folder} goes on with it.")
    folder.mkdir(parents=True, exist_ok=True)
    return new


def _resumed(folder: Path, new: dict[str, Any]) -> dict[str, Any]:
    old = read_plan(folder, f"sweep.resume={folder}")
    if not same_arguments(old["arguments"], new["arguments"]) and is_running(folder, old):
        raise InputError(f"The sweep {folder} is still running: wait for its end before giving it other jobs.")
    plan = extended(old, new)
    if same_arguments(old["arguments"], new["arguments"]) and len(plan["jobs"]) > len(old["jobs"]):
        print(
            "The same arguments compose to other trainings than before, since medsynth or the files of choices have "
            "changed: these are new jobs.",
            flush=True,
        )
    statuses = [status for status, _ in states(folder, plan)]
    if all(status in (*SETTLED, RUNNING) for status in statuses):
        raise InputError(f"The sweep {folder} has nothing left to do: {count_words(statuses)}.")
    return plan


def _announce(folder: Path, plan: dict[str, Any], resumed: bool) -> None:
    total = len(plan["order"])
    statuses = [status for status, _ in states(folder, plan)]
    done = sum(status in SETTLED for status in statuses)
    again = sum(status not in (*SETTLED, RUNNING, MISSING) for status in statuses)
    words = f"{total} jobs over {', '.join(plan['swept'])}" if plan["swept"] else "1 job"
    if resumed:
        words += f"; {done} are done, {again} are tried again or go on, {total - done - again} are new"
    print(f"{words}. Everything lands in {folder}; `medsynth sweep resume={folder}` goes on after a stop.", flush=True)


def _report(folder: Path) -> Path | None:
    """The page of the sweep; a report that fails spoils nothing."""
    try:
        from medsynth.report.page import write_report  # plotly comes with it

        return write_report([folder], folder / "report.html")
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        print(f"The report could not be written: {type(error).__name__}: {first}", flush=True)
        return None
