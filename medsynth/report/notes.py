"""What to keep in mind when runs are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from medsynth.report.effects import causes
from medsynth.report.factors import SEED, split_of
from medsynth.report.option_values import UNKNOWN, typed_value
from medsynth.report.run import Run
from medsynth.report.run_files import entry
from medsynth.runs.status import COMPLETED, DUPLICATE, RUNNING

_APART = ("_low", "_high", "_std", "/num_real", "/num_fake")
_MOST = 4  # names in a sentence


def notes(runs: Sequence[Run]) -> list[str]:
    """One sentence each: unequal data, durations, metrics, seeds or machines, what goes on, failed, or is damaged."""
    jobs = [run for run in runs if run.status != DUPLICATE]
    done = [run for run in jobs if run.status == COMPLETED]
    return [*_states(runs), *_confounded(jobs), *_unequal(done), *_damaged(runs)]


def _states(runs: Sequence[Run]) -> Iterator[str]:
    going = [run.name for run in runs if run.status == RUNNING]
    if going:
        yield f"Still running, and so without a value: {_named(going)}."
    lost = [run for run in runs if run.status not in (COMPLETED, RUNNING, DUPLICATE)]
    if lost:
        yield f"Without a value: {_named([f'{run.name} ({run.status})' for run in lost])}."
    numbers = {run.number: run.name for run in runs}
    for run in runs:
        if run.status == DUPLICATE:
            other = numbers.get(run.job.get("same_as"), "another job")
            yield f"{run.name} is the same composition as {other}, was not trained again and counts once."
    for group in _same_runs([run for run in runs if run.status == COMPLETED]):
        yield f"Trained more than once with equal options and seed, counted as one by their mean: {_named(group)}."


def _same_runs(done: Sequence[Run]) -> list[list[str]]:
    found = _by(done, lambda run: tuple(sorted(run.options.items(), key=str)) or run.folder)
    return [names for names in found.values() if len(names) > 1]


def _confounded(jobs: Sequence[Run]) -> Iterator[str]:
    for factor in causes(jobs):
        if factor.together:
            others = ", ".join(factor.together)
            yield f"{factor.key} and {others} vary together: their effects cannot be told apart."
        known = [run for run in jobs if typed_value(run, SEED) != UNKNOWN]
        seeds, values = [typed_value(run, SEED) for run in known], [factor.of[run.folder] for run in known]
        if len(set(seeds)) > 1 and split_of(seeds) == split_of(values):
            yield f"The seed varies together with {factor.key}: their effects cannot be told apart."
    cells = [frozenset(typed_value(run, SEED) for run in cell) - {UNKNOWN} for cell in _cells(jobs)]
    if len({seeds for seeds in cells if seeds}) > 1:
        yield "Seeds are not the same everywhere: only runs with equal seeds are paired."


def _cells(jobs: Sequence[Run]) -> list[list[Run]]:
    found = defaultdict(list)
    varied = causes(jobs)
    for run in jobs:
        found[tuple(factor.of[run.folder] for factor in varied)].append(run)
    return list(found.values())


def _unequal(done: Sequence[Run]) -> Iterator[str]:
    varied = {factor.key.split(".")[0].split("@")[0] for factor in causes(done)}
    data = _by(done, lambda run: str(entry(run.summary, "environment", "data_fingerprint") or run.summary.get("data")))
    if len(data) > 1:
        reason = "" if "data" in varied else ", though no option of the data does"
        yield f"The data differ{reason}: values are comparable within the same data only. {_parts(data)}"
    seen = _by(done, lambda run: f"{run.images_seen or 0:,} images")
    if len(seen) > 1:
        yield f"The runs saw different numbers of images, so that longer ones have an advantage. {_parts(seen)}"
    metrics = [{name for name in (*_recorded(run), *run.curves) if _is_metric(name)} for run in done]
    partly = sorted(set().union(*metrics) - set.intersection(*metrics)) if metrics else []
    if partly:
        yield f"Not measured by all runs, and compared between those that did: {_named(partly)}."
    objectives = _by(done, lambda run: run.objective)
    if len(objectives) > 1:
        yield f"The runs minimized different objectives. {_parts(objectives)}"
    for name, what in (("medsynth", "versions of medsynth"), ("torch", "versions of torch"), ("device", "devices")):
        found = _by(done, lambda run, name=name: str(run.summary.get(name, "unknown")))
        if len(found) > 1:
            affected = "times are not comparable" if name == "device" else "times and values may differ for that reason"
            yield f"The runs are from different {what}: {affected}. {_parts(found)}"


def _damaged(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.damaged:
            yield f"{run.name}: {' '.join(run.damaged)}"


def _recorded(run: Run) -> Iterator[str]:
    metrics = run.summary.get("metrics")
    yield from metrics if isinstance(metrics, Mapping) else ()


def _is_metric(name: str) -> bool:
    return name.startswith("val/") and not name.endswith(_APART)


def _by(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> dict[Hashable, list[str]]:
    found = defaultdict(list)
    for run in runs:
        found[key(run)].append(run.name)
    return found


def _parts(found: dict[Hashable, list[str]]) -> str:
    return " ".join(f"{value}: {_named(names)}." for value, names in found.items())


def _named(names: Sequence[str]) -> str:
    others = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {others} others" if others > 0 else "")
