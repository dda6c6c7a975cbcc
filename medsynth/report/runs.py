"""Reading of runs from their folders, also of runs that failed, were killed, still run, or left damaged files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsynth.configuration.private_paths import HIDDEN, private_options, text_without
from medsynth.errors import InputError
from medsynth.report.answers import read_answers, read_verdict
from medsynth.report.evaluation import read_evaluations
from medsynth.report.figure_files import read_figures, read_measures
from medsynth.report.run import Run as Run
from medsynth.report.run_files import (
    Damage,
    Option,
    flat,
    read_configuration,
    read_metrics,
    read_record,
    read_samples,
    read_translated,
    text,
    texts,
)
from medsynth.runs.layout import CONFIGURATION, JOB, LOG, METRICS, SUMMARY, SWEEP, job_folders, log_tail
from medsynth.runs.records import read_json
from medsynth.runs.status import FAILED, MISSING, RUNNING, State, state

# Where and how it was started:
_RUN_KEYS = ("overrides", "sweep", "vary", "hydra", "run_dir", "resume", "report", "figures")
_OUTPUT = "output.log"  # what the process of a job printed, also before its log was opened


def read_run(folder: Path) -> Run:
    """Read the run in ``folder``.

    Raises:
        InputError: it is not the folder of a run.
    """
    folder = Path(folder)
    if not _is_run(folder):
        raise InputError(
            f"{folder} is not the folder of a run, since it has neither {SUMMARY} nor {JOB}: name another."
        )
    damage = Damage()
    job, summary = (read_record(folder / name, damage) for name in (JOB, SUMMARY))
    config = read_configuration(folder / CONFIGURATION, damage)
    status, reason = _state(folder)
    samples, real, reconstructed = read_samples(folder / "samples", damage)
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
        summary=_with_parameters(summary),
        samples=samples,
        real_samples=real,
        reconstructed=reconstructed,
        translated=read_translated(folder / "samples", damage),
        damaged=tuple(damage),
        choices=choices([*texts(config.get("overrides")), *texts(job.get("overrides"))]),
        job=job,
        evaluations=tuple(read_evaluations(folder)),
        verdict=read_verdict(folder),
        answers=read_answers(folder),
        figures=read_figures(folder),
        measures=read_measures(folder),
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the runs in ``folders``, which are folders of runs or of sweeps; each run once.

    Raises:
        InputError: no folder is given, or one is missing or has no runs.
    """
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        for run in _runs_in(folder):
            found.setdefault(run.folder.resolve(), run)
    if not found:
        raise InputError("No folder of a run or of a sweep is given: name one.")
    return _without_paths(_distinct(list(found.values())))


def _without_paths(runs: list[Run]) -> list[Run]:
    """Hide the paths of the runs' data: pages are passed on, and a folder may be named after a patient."""
    shown: dict[str, str] = {}  # path -> what stands for it, so that runs on different data can be told apart
    return [_run_without_paths(run, shown) for run in runs]


def _run_without_paths(run: Run, shown: dict[str, str]) -> Run:
    hidden = private_options({**run.choices, **run.options})
    if not hidden:
        return run

    def option(key: str, value: Any) -> Any:
        is_hidden = isinstance(value, str) and (key in hidden or (value in hidden.values() and "/" in value))
        if is_hidden:
            return shown.setdefault(value, f"path {len(shown) + 1} {HIDDEN}")
        return text_without(value, hidden) if isinstance(value, str) and key.startswith("logger.") else value

    def public(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: public(value) for key, value in node.items()}
        if isinstance(node, list):
            return [public(value) for value in node]
        return text_without(node, hidden) if isinstance(node, str) else node

    chosen = {key: option(key, value) for key, value in run.choices.items()}
    name = run.name
    for key in [key for key in chosen if f"{key}=" in name]:
        name = name.replace(f"{key}={run.choices[key]}", f"{key}={chosen[key]}")
    return replace(
        run,
        name=name,
        reason=public(run.reason),
        log_tail=tuple(public(list(run.log_tail))),
        options={key: option(key, value) for key, value in run.options.items()},
        choices=chosen,
        summary=public(run.summary),
        job=public(run.job),
        evaluations=tuple(public(record) for record in run.evaluations),
        verdict=public(run.verdict),
        answers=public(run.answers),
        measures=public(run.measures),
    )


def choices(overrides: Sequence[str]) -> dict[str, str]:
    """Return the last choice for each key of Hydra's ``overrides``: ``["+a.b=1"]`` -> ``{"a.b": "1"}``."""
    chosen = {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+~")
        if name and name.split(".")[0] not in _RUN_KEYS:
            chosen[name] = "left out" if key.startswith("~") else value
    return chosen


def require_folder(folder: Path) -> None:
    """Refuse what is not a folder.

    Raises:
        InputError: names it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the folder of a run or of a sweep.")


def _runs_in(folder: Path) -> Iterator[Run]:
    require_folder(folder)
    if _is_run(folder):
        yield read_run(folder)
        return
    sweep = read_json(folder / SWEEP)
    swept = tuple(key.lstrip("+~") for key in texts(sweep.get("swept")))
    jobs = {int(path.name): read_run(path) for path in job_folders(folder) if _is_run(path)}
    recorded = sweep.get("jobs")
    planned = recorded if isinstance(recorded, list) else []
    if not jobs and not planned:
        raise InputError(f"{folder} has no runs: name the folder of a run ({SUMMARY}) or of a sweep ({SWEEP}).")
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
    except (TypeError, ValueError, AttributeError, OverflowError):  # valid JSON with other types than a run writes
        return State(FAILED, f"{JOB} or {SUMMARY} is damaged, so that its end is not known")


def _is_run(folder: Path) -> bool:
    others = (METRICS, LOG, "composition.yaml")
    configured = (folder / CONFIGURATION).is_file() and any((folder / name).is_file() for name in others)
    return configured or (folder / SUMMARY).is_file() or (folder / JOB).is_file()


def _distinct(runs: list[Run]) -> list[Run]:
    """Make names unique: by the sweep's folder in front, and within one sweep by the job's folder behind."""
    counts = Counter(run.name for run in runs)
    parents_of = {name: {run.folder.resolve().parent for run in runs if run.name == name} for name in counts}
    common = {name: os.path.commonpath(parents) for name, parents in parents_of.items()}
    above = [run.folder.resolve().parent.relative_to(common[run.name]) for run in runs]
    runs = [
        replace(run, name=f"{place}/{run.name}") if place.parts else run for run, place in zip(runs, above, strict=True)
    ]
    counts = Counter(run.name for run in runs)
    return [replace(r, name=f"{r.name} ({r.folder.name})") if counts[r.name] > 1 else r for r in runs]


def _options(config: Mapping[str, Any]) -> dict[str, Option]:
    """Return the options but for those that start the run and for paths inside of its folder."""
    folder = config.get("run_dir")
    kept = {name: node for name, node in config.items() if name not in _RUN_KEYS}
    inside = folder if isinstance(folder, str) and folder else "\0"
    return {key: value for key, value in flat(kept) if not (isinstance(value, str) and value.startswith(inside))}


def _with_parameters(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary with current names; version 0.1 recorded the numbers of parameters as ``weights``."""
    return {"parameters" if name == "weights" else name: value for name, value in summary.items()}


def _last_output(folder: Path, lines: int = 20) -> list[str]:
    try:
        return (folder / _OUTPUT).read_text(errors="replace", encoding="utf-8").splitlines()[-lines:]
    except OSError:
        return []
