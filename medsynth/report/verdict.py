"""The result of a sweep in sentences: which options won, by how much, whether this exceeds chance, what is missing."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from medsynth.report.columns import metric_names
from medsynth.report.effects import better, cells, completed, factors_without_seed
from medsynth.report.factor_verdict import compare_values
from medsynth.report.factors import Factor, value_of
from medsynth.report.interaction import interaction
from medsynth.report.run import Run
from medsynth.runs.status import COMPLETED, DUPLICATE, RUNNING

_NAMED = 3  # options in a sentence
_CELLS = 4  # combinations of two options' values that have to exist to compare their effects


def verdict(runs: Sequence[Run], metric: str, direction: str | None = None) -> str:
    """Describe which options won, by how much, over how many pairs, against which spread, and which runs are missing.

    ``direction`` tells which values of ``metric`` are better, "lower" or "higher"; None: see ``effects.better``.
    """
    jobs = [run for run in runs if run.status != DUPLICATE]
    measured, varied = completed(jobs, metric), factors_without_seed(jobs)
    if not measured:
        sentences = [_without_value(jobs, metric)]
    elif len(measured) == 1:
        sentences = [_single(measured, metric, len(jobs))]
    elif not varied:
        sentences = [_repeated(measured, metric)]
    else:
        sentences = _winner(jobs, metric, varied, highest=(direction or better(metric, runs)) == "higher")
    return " ".join([*sentences, *_missing(jobs, metric)])


def _winner(jobs: Sequence[Run], metric: str, varied: Sequence[Factor], *, highest: bool) -> list[str]:
    by_cell = cells(completed(jobs, metric), varied)
    means = {cell: statistics.fmean(seeds.values()) for cell, seeds in by_cell.items()}
    best = (max if highest else min)(means, key=means.__getitem__)
    count = len(by_cell[best])
    name = ", ".join(f"{factor.label}={value}" for factor, value in zip(varied, best, strict=True))
    winner = f"{name} won with {metric} {means[best]:.4g} ({f'mean of {count} seeds' if count > 1 else 'one run'})"
    verdicts = [compare_values(jobs, metric, factor, highest=highest) for factor in varied]
    if len(varied) == 1 and verdicts[0].better == name:
        return [f"{winner}; it is {verdicts[0].advantage}"]
    return [f"{winner}.", *(found.sentence for found in verdicts), *_dependence(jobs, metric, varied, best)]


def _dependence(jobs: Sequence[Run], metric: str, varied: Sequence[Factor], best: Sequence[str]) -> Iterator[str]:
    """Yield a warning if the effects of two factors depend on each other, or that more than two were not tested."""
    if len(varied) == 2:
        first, second = varied
        found = interaction(jobs, first, second, metric)
        if found.excludes_zero:
            yield f"But the two depend on each other: {found.sentence}"
    if len(varied) > 2:
        yield _not_tested(jobs, varied, dict(zip(varied, best, strict=True)))


def _not_tested(jobs: Sequence[Run], varied: Sequence[Factor], best: Mapping[Factor, str]) -> str:
    """Say that interactions of more than two factors are not tested, and how two of them can be compared."""
    first, second, *others = varied
    labels = [factor.label for factor in varied]
    same = [run for run in jobs if all(value_of(run, factor) == best[factor] for factor in others)]
    values = ", ".join(
        f"{factor.label}={best[factor]}" for factor in others[:_NAMED]
    ) + f" and {len(others) - _NAMED} more as in the best jobs" * (len(others) > _NAMED)
    if len({(value_of(run, first), value_of(run, second)) for run in same}) < _CELLS:
        typed = " ".join(f"{factor.key}={','.join(factor.values[:2])}" for factor in (first, second))
        command = f"python train.py -m {typed} 'seed=range(3)'"
    else:
        command = f"medsynth report {_typed_folders(same)} out=two_factors.html"
    return (
        f"Interactions among {', '.join(labels[:-1])} and {labels[-1]} are not tested here, since more than two options"
        f" vary; to compare {first.label} and {second.label} at {values}, type: {command}"
    )


def _typed_folders(runs: Sequence[Run]) -> str:
    """Return the folders of jobs as they are typed in a shell: "sweep/{0,2,4}"."""
    parents = {run.folder.parent for run in runs}
    if len(parents) > 1:
        return " ".join(str(run.folder) for run in runs)
    return f"{parents.pop()}/{{{','.join(run.folder.name for run in runs)}}}"


def _without_value(jobs: Sequence[Run], metric: str) -> str:
    done = [run for run in jobs if run.status == COMPLETED]
    if not done:
        return f"No run has completed, so that there is no value of {metric}."
    known = metric_names(sorted({name for run in done for name in run.curves}))
    others = f"there are {', '.join(known)}" if known else "there is no other metric"
    return f"No completed run has a value of {metric}; {others}."


def _single(measured: Mapping[Run, float], metric: str, jobs: int) -> str:
    ((run, value),) = measured.items()
    alone = ", the only value, so that there is nothing to compare it with" if jobs > 1 else ""
    return f"{run.name} reached {metric} {value:.4g}{alone}."


def _repeated(measured: Mapping[Run, float], metric: str) -> str:
    values = list(measured.values())
    return (
        f"{len(values)} runs that differ only in their seed reached {metric} {statistics.fmean(values):.4g} on "
        f"average, with a standard deviation of {statistics.stdev(values):.2g} (from {min(values):.4g} to "
        f"{max(values):.4g})."
    )


def _missing(jobs: Sequence[Run], metric: str) -> Iterator[str]:
    """Yield how many jobs have no value and why, and whether that depends on a factor."""
    done = [run for run in jobs if run.status == COMPLETED]
    lost = [run for run in jobs if run.status not in (COMPLETED, RUNNING)]
    running = len(jobs) - len(done) - len(lost)
    without_value = len(done) - len(completed(done, metric))
    if running:
        yield f"{running} of {len(jobs)} jobs {'is' if running == 1 else 'are'} still running."
    if without_value and without_value < len(done):
        yield f"{without_value} completed without a finite value of {metric}."
    if lost:
        kinds = ", ".join(f"{count} {status}" for status, count in Counter(run.status for run in lost).items())
        means = ": means are over those that did" if done else ""
        yield f"{len(lost)} of {len(jobs)} {'jobs' if len(jobs) > 1 else 'job'} did not complete ({kinds}){means}."
    if done and len(lost) > 1:
        yield from (_suspect(factor, lost) for factor in factors_without_seed(jobs) if len(_values(factor, lost)) == 1)


def _suspect(factor: Factor, lost: Sequence[Run]) -> str:
    (value,) = _values(factor, lost)
    return (
        f"{'Both' if len(lost) == 2 else f'All {len(lost)}'} have {factor.label}={value}: this may be the reason, and "
        "biases the mean over its other runs in its favor."
    )


def _values(factor: Factor, runs: Sequence[Run]) -> set[str]:
    return {factor.of[run.folder] for run in runs}
