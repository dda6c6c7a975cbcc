"""The answer of a sweep as sentences: what won, by how much, whether that is more than chance, what is missing."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from medsynth.report.effects import better, causes, cells, completed
from medsynth.report.factor_words import compared
from medsynth.report.factors import Factor
from medsynth.report.interaction import interaction
from medsynth.report.run import Run
from medsynth.runs.status import COMPLETED, DUPLICATE, RUNNING


def verdict(runs: Sequence[Run], metric: str, direction: str | None = None) -> str:
    """What won, by how much, over how many pairs, against which spread of the seeds; and what is missing.

    ``direction`` says which values of ``metric`` are better, "lower" or "higher"; None: as ``effects.better`` knows it.
    """
    jobs = [run for run in runs if run.status != DUPLICATE]
    measured, varied = completed(jobs, metric), causes(jobs)
    if not measured:
        sentences = [_nothing(jobs, metric)]
    elif len(measured) == 1:
        sentences = [_alone(measured, metric, len(jobs))]
    elif not varied:
        sentences = [_repeated(measured, metric)]
    else:
        sentences = _won(jobs, metric, varied, highest=(direction or better(metric)) == "higher")
    return " ".join([*sentences, *_missing(jobs, metric)])


def _won(jobs: Sequence[Run], metric: str, varied: Sequence[Factor], *, highest: bool) -> list[str]:
    by_cell = cells(completed(jobs, metric), varied)
    means = {cell: statistics.fmean(seeds.values()) for cell, seeds in by_cell.items()}
    best = (max if highest else min)(means, key=means.__getitem__)
    count = len(by_cell[best])
    name = ", ".join(f"{factor.label}={value}" for factor, value in zip(varied, best, strict=True))
    winner = f"{name} won with {metric} {means[best]:.4g} ({f'mean of {count} seeds' if count > 1 else 'one run'})"
    sentences = [compared(jobs, metric, factor, highest=highest) for factor in varied]
    if len(varied) == 1 and sentences[0].startswith(f"{name} is "):
        return [f"{winner}; it is {sentences[0].removeprefix(f'{name} is ')}"]
    return [f"{winner}.", *sentences, *_dependence(jobs, metric, varied)]


def _dependence(jobs: Sequence[Run], metric: str, varied: Sequence[Factor]) -> Iterator[str]:
    """Where the effect of one of two factors is shown to depend on the other, neither can be told without it."""
    if len(varied) == 2:
        found = interaction(jobs, *varied, metric)
        if found.low is not None and not found.low <= 0 <= found.high:
            yield f"But the two depend on each other: {found.sentence}"


def _nothing(jobs: Sequence[Run], metric: str) -> str:
    done = [run for run in jobs if run.status == COMPLETED]
    if not done:
        return f"No run has completed, so that nothing can be said of {metric}."
    known = sorted({name for run in done for name in run.curves if name.startswith("val/")})
    known = [name for name in known if not name.endswith(("_low", "_high", "_std")) and "/num_" not in name]
    others = f"there are {', '.join(known)}" if known else "there is no other metric"
    return f"No completed run has a value of {metric}; {others}."


def _alone(measured: Mapping[Run, float], metric: str, jobs: int) -> str:
    ((run, value),) = measured.items()
    alone = ", alone of all, so that there is nothing to compare it with" if jobs > 1 else ""
    return f"{run.name} reached {metric} {value:.4g}{alone}."


def _repeated(measured: Mapping[Run, float], metric: str) -> str:
    values = list(measured.values())
    return (
        f"{len(values)} runs that differ in no more than their seed reached {metric} {statistics.fmean(values):.4g} on "
        f"average, with a standard deviation of {statistics.stdev(values):.2g} (from {min(values):.4g} to "
        f"{max(values):.4g})."
    )


def _missing(jobs: Sequence[Run], metric: str) -> Iterator[str]:
    """How many jobs have no value and why, and whether that depends on a factor."""
    done = [run for run in jobs if run.status == COMPLETED]
    lost = [run for run in jobs if run.status not in (COMPLETED, RUNNING)]
    going = len(jobs) - len(done) - len(lost)
    silent = len(done) - len(completed(done, metric))
    if going:
        yield f"{going} of {len(jobs)} jobs {'is' if going == 1 else 'are'} still running."
    if silent and silent < len(done):
        yield f"{silent} completed without a finite value of {metric}."
    if lost:
        kinds = ", ".join(f"{count} {status}" for status, count in Counter(run.status for run in lost).items())
        means = ": means are over those that did" if done else ""
        yield f"{len(lost)} of {len(jobs)} {'jobs' if len(jobs) > 1 else 'job'} did not complete ({kinds}){means}."
    if done and len(lost) > 1:
        yield from (_suspect(factor, lost) for factor in causes(jobs) if len(_values(factor, lost)) == 1)


def _suspect(factor: Factor, lost: Sequence[Run]) -> str:
    (value,) = _values(factor, lost)
    return (
        f"{'Both' if len(lost) == 2 else f'All {len(lost)}'} have {factor.label}={value}: that may be why, and a mean "
        "over its other runs flatters it."
    )


def _values(factor: Factor, runs: Sequence[Run]) -> set[str]:
    return {factor.of[run.folder] for run in runs}
