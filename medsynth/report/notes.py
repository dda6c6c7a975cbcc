"""Notes that a reader of a comparison of runs must know: unequal data, confounded factors, missing values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from medsynth.report.columns import metric_names
from medsynth.report.effects import factors_without_seed
from medsynth.report.factors import SEED, split_of
from medsynth.report.option_values import UNKNOWN, typed_value
from medsynth.report.run import Run
from medsynth.report.run_files import entry
from medsynth.runs.status import COMPLETED, DUPLICATE, RUNNING

_OF_LOADING = ("data.seed", "data.batch_size", "data.num_workers", "data.balance_classes")
_MAX_NAMES = 4  # in a sentence


def notes(runs: Sequence[Run]) -> list[str]:
    """Return sentences about running and failed runs, unequal data, lengths or seeds, and cautions about the data."""
    jobs = [run for run in runs if run.status != DUPLICATE]
    done = [run for run in jobs if run.status == COMPLETED]
    return [*_states(runs), *_confounded(jobs), *_unequal(done), *_cautions(jobs), *_damaged(runs)]


def _states(runs: Sequence[Run]) -> Iterator[str]:
    running = [run.name for run in runs if run.status == RUNNING]
    if running:
        yield f"Still running, and so without a value: {_named(running)}."
    lost = [run for run in runs if run.status not in (COMPLETED, RUNNING, DUPLICATE)]
    if lost:
        yield f"Without a value: {_named([f'{run.name} ({run.status})' for run in lost])}."
    numbers = {run.number: run.name for run in runs}
    for run in runs:
        if run.status == DUPLICATE:
            other = numbers.get(run.job.get("same_as"), "another job")
            yield f"{run.name} has the same configuration as {other}; it was not trained again and counts once."
    for group in _same_runs([run for run in runs if run.status == COMPLETED]):
        yield f"Trained more than once with equal options and seed, and counted once by their mean: {_named(group)}."


def _same_runs(done: Sequence[Run]) -> list[list[str]]:
    found = _by(done, lambda run: tuple(sorted(run.options.items(), key=str)) or run.folder)
    return [names for names in found.values() if len(names) > 1]


def _confounded(jobs: Sequence[Run]) -> Iterator[str]:
    for factor in factors_without_seed(jobs):
        if factor.together:
            others = ", ".join(factor.together)
            yield f"{factor.key} and {others} vary together: their effects cannot be separated."
        known = [run for run in jobs if typed_value(run, SEED) != UNKNOWN]
        seeds, values = [typed_value(run, SEED) for run in known], [factor.of[run.folder] for run in known]
        if len(set(seeds)) > 1 and split_of(seeds) == split_of(values):
            yield f"The seed varies together with {factor.key}: their effects cannot be separated."
    cells = [frozenset(typed_value(run, SEED) for run in cell) - {UNKNOWN} for cell in _cells(jobs)]
    if len({seeds for seeds in cells if seeds}) > 1:
        yield "Not all values were trained with the same seeds: only runs with equal seeds are paired."


def _cells(jobs: Sequence[Run]) -> list[list[Run]]:
    found = defaultdict(list)
    varied = factors_without_seed(jobs)
    for run in jobs:
        found[tuple(factor.of[run.folder] for factor in varied)].append(run)
    return list(found.values())


def _unequal(done: Sequence[Run]) -> Iterator[str]:
    differing = _differing_data(done)
    data = _by(done, lambda run: str(entry(run.summary, "environment", "data_fingerprint") or run.summary.get("data")))
    if len(data) > 1:
        reason = f" by {_named(differing)}" if differing else ", although the options of the data are equal"
        yield f"The data differ{reason}: only values on the same data are comparable. {_groups(data)}"
    seen = _by(done, lambda run: f"{run.images_seen or 0:,} images")
    if len(seen) > 1:
        yield f"The runs saw different numbers of images, so that longer ones have an advantage. {_groups(seen)}"
    metrics = [set(metric_names([*_recorded(run), *run.curves])) for run in done]
    partly = sorted(set().union(*metrics) - set.intersection(*metrics)) if metrics else []
    if partly:
        yield f"Not measured in all runs, and compared between those that have it: {_named(partly)}."
    objectives = _by(done, lambda run: run.objective)
    if len(objectives) > 1:
        yield f"The runs minimized different objectives. {_groups(objectives)}"
    for name, description in (
        ("medsynth", "versions of medsynth"),
        ("torch", "versions of torch"),
        ("device", "devices"),
    ):
        found = _by(done, lambda run, name=name: str(run.summary.get(name, "unknown")))
        if len(found) > 1:
            affected = "times are not comparable" if name == "device" else "times and values may differ for that reason"
            yield f"The runs are from different {description}: {affected}. {_groups(found)}"


def _differing_data(done: Sequence[Run]) -> list[str]:
    """Return the options of the data in which runs differ, however these were chosen; no order, no batches."""
    keys = dict.fromkeys(key for run in done for key in run.options if key.split(".")[0] == "data")
    known = [run for run in done if run.options]
    return [key for key in keys if key not in _OF_LOADING and len({str(run.options.get(key)) for run in known}) > 1]


def _cautions(jobs: Sequence[Run]) -> Iterator[str]:
    """Yield what the runs say of data from which numbers mean little, and of which runs that holds if not of all."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for run in jobs:
        own = run.summary.get("data_cautions")
        for caution in own if isinstance(own, list) else ():
            found[str(caution)].append(run.name)
    for caution, names in found.items():
        yield caution if len(names) == len(jobs) else f"{_named(names)}: {caution}"


def _damaged(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.damaged:
            yield f"{run.name}: {' '.join(run.damaged)}"


def _recorded(run: Run) -> Iterator[str]:
    metrics = run.summary.get("metrics")
    yield from metrics if isinstance(metrics, Mapping) else ()


def _by(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> dict[Hashable, list[str]]:
    found = defaultdict(list)
    for run in runs:
        found[key(run)].append(run.name)
    return found


def _groups(found: dict[Hashable, list[str]]) -> str:
    return " ".join(f"{value}: {_named(names)}." for value, names in found.items())


def _named(names: Sequence[str]) -> str:
    others = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {others} others" if others > 0 else "")
