"""Runs as their folders tell them, also where they failed, were killed, still go on, or left damaged files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsynth.errors import InputError
from medsynth.report.run import Run as Run
from medsynth.report.run_files import (
    Damage,
    Option,
    flat,
    read_configuration,
    read_metrics,
    read_record,
    read_samples,
    text,
    texts,
)
from medsynth.runs.layout import CONFIGURATION, JOB, LOG, METRICS, SUMMARY, SWEEP, job_folders, log_tail, read_json
from medsynth.runs.status import FAILED, MISSING, RUNNING, State, state

_PLACES = ("overrides", "sweep", "hydra", "run_dir", "resume", "report")
_OUTPUT = "output.log"  # of a job's process: what it said where its log could not


def read_run(folder: Path) -> Run:
    """The run in ``folder``.

    Raises:
        InputError: it is not the folder of a run.
    """
    folder = Path(folder)
    if not _is_run(folder):
        raise InputError(f"{folder} is not the folder of a run: it holds neither {SUMMARY} nor {JOB}.")
    damage = Damage()
    job, summary = (read_record(folder / name, damage) for name in (JOB, SUMMARY))
    config = read_configuration(folder / CONFIGURATION, damage)
    status, reason = _state(folder)
    samples, real = read_samples(folder / "samples", damage)
    number = job.get("number") if isinstance(job.get("number"), int) else None
    return Run(
        folder=folder,
        number=number,
        name=text(job.get("name")) or folder.resolve().name,
        status=status,
        reason=text(reason),
        log_tail=tuple(log_tail(folder) or _last_output(folder)),
        options=_options(config),
        curves=read_metrics(folder / METRICS, damage, growing=status == RUNNING),
        summary=summary,
        samples=samples,
        real_samples=real,
        damaged=tuple(damage),
        choices=choices([*texts(config.get("overrides")), *texts(job.get("overrides"))]),
        job=job,
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in ``folders``, which are those of runs or of sweeps; each run once, however often it is named.

    Raises:
        InputError: a folder is missing, empty or foreign.
    """
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        for run in _below(folder):
            found.setdefault(run.folder.resolve(), run)
    if not found:
        raise InputError("No folder of a run or of a sweep was named.")
    return _distinct(list(found.values()))


def choices(overrides: Sequence[str]) -> dict[str, str]:
    """Hydra's overrides -> what was chosen last for each key, without places: ``["+a.b=1"]`` -> ``{"a.b": "1"}``."""
    chosen = {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+~")
        if name and name.split(".")[0] not in _PLACES:
            chosen[name] = "left out" if key.startswith("~") else value
    return chosen


def _below(folder: Path) -> Iterator[Run]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the folder of a run or of a sweep.")
    if _is_run(folder):
        yield read_run(folder)
        return
    sweep = read_json(folder / SWEEP)
    swept = tuple(key.lstrip("+~") for key in texts(sweep.get("swept")))
    jobs = {int(path.name): read_run(path) for path in job_folders(folder) if _is_run(path)}
    planned = sweep.get("jobs") if isinstance(sweep.get("jobs"), list) else []
    if not jobs and not planned:
        raise InputError(f"{folder} holds no runs: name the folder of a run ({SUMMARY}) or of a sweep ({SWEEP}).")
    for number in sorted({*jobs, *range(len(planned))}):
        overrides = texts(planned[number]) if number < len(planned) else []
        run = jobs.get(number) or Run(folder / str(number), number, "", MISSING, "it was never started")
        chosen = choices(overrides) | dict(run.choices)
        own = ",".join(f"{key}={chosen[key]}" for key in swept if key in chosen)
        name = own if run.name in ("", str(number)) and own else run.name or str(number)
        yield replace(run, number=number, name=name, choices=chosen, swept=swept)


def _state(folder: Path) -> State:
    try:
        return state(folder)
    except (TypeError, ValueError, AttributeError, OverflowError):  # sound JSON, with other types than were written
        return State(FAILED, f"{JOB} or {SUMMARY} is damaged: what became of it is not known")


def _is_run(folder: Path) -> bool:
    beside = (METRICS, LOG, "composition.yaml")
    own = (folder / CONFIGURATION).is_file() and any((folder / name).is_file() for name in beside)
    return own or (folder / SUMMARY).is_file() or (folder / JOB).is_file()


def _distinct(runs: list[Run]) -> list[Run]:
    """Names that several have get the sweep's folder before them; within one sweep, the job's behind them."""
    counts = Counter(run.name for run in runs)
    places = {name: {run.folder.resolve().parent for run in runs if run.name == name} for name in counts}
    common = {name: os.path.commonpath(parents) for name, parents in places.items()}
    above = [run.folder.resolve().parent.relative_to(common[run.name]) for run in runs]
    runs = [
        replace(run, name=f"{place}/{run.name}") if place.parts else run for run, place in zip(runs, above, strict=True)
    ]
    counts = Counter(run.name for run in runs)
    return [replace(r, name=f"{r.name} ({r.folder.name})") if counts[r.name] > 1 else r for r in runs]


def _options(config: Mapping[str, Any]) -> dict[str, Option]:
    place = config.get("run_dir")
    kept = {name: part for name, part in config.items() if name not in _PLACES}
    inside = place if isinstance(place, str) and place else "\0"
    return {key: value for key, value in flat(kept) if not (isinstance(value, str) and value.startswith(inside))}


def _last_output(folder: Path, lines: int = 20) -> list[str]:
    try:
        return (folder / _OUTPUT).read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
