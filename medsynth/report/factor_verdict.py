"""One factor in a sentence: its best value against the second best, and whether the difference exceeds chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import spearmanr

from medsynth.report.effects import PairedDifference, completed, differences, effects, seed_spread
from medsynth.report.factors import Factor
from medsynth.report.run import Run

_MANY = 8  # values without repetition, as in a search, where two values next to each other show nothing


@dataclass(frozen=True)
class FactorVerdict:
    """The comparison of the best two values of a factor.

    Attributes:
        sentence: the comparison, or why there is none.
        better: the better of the two, as "loss=hinge"; None if neither is.
        advantage: by how much it is better and whether that is shown, to follow "it is"; empty if neither is.
    """

    sentence: str
    better: str | None = None
    advantage: str = ""


def compare_values(jobs: Sequence[Run], metric: str, factor: Factor, *, highest: bool) -> FactorVerdict:
    """Compare the value of ``factor`` that has the best mean with the second best, by paired runs if there are any.

    A number that took many values, each once, is described by its rank correlation with the metric instead.
    """
    found = [effect for effect in effects(jobs, metric) if effect.factor == factor]
    means = {effect.value: effect.mean for effect in found if effect.mean is not None}
    if len(means) < 2:
        (value,) = means
        return FactorVerdict(
            f"{factor.label}: only {value} has completed runs, so there is nothing to compare it with."
        )
    if len(means) >= _MANY and all(effect.count == 1 for effect in found if effect.value in means):
        return FactorVerdict(_trend(completed(jobs, metric), metric, factor))
    ranked = sorted(means, key=means.__getitem__, reverse=highest)[:2]
    by_values = {frozenset((pair.a, pair.b)): pair for pair in differences(jobs, metric, factor)}
    pair = by_values[frozenset(ranked)]
    if pair.difference == 0:
        return FactorVerdict(f"{factor.label}={pair.a} and {factor.label}={pair.b} do not differ {_basis(pair)}.")
    ahead = pair.difference >= 0 if highest else pair.difference <= 0
    a, b = (pair.a, pair.b) if ahead else (pair.b, pair.a)
    selected = f" (the best two of {len(means)} values; the interval does not account for this selection)"
    advantage = (
        f"{abs(pair.difference):.3g}{_interval(pair)} better than {factor.label}={b} {_basis(pair)}, "
        f"{_evidence(pair, seed_spread(jobs, metric))}{selected * (len(means) > 2)}."
    )
    return FactorVerdict(f"{factor.label}={a} is {advantage}", f"{factor.label}={a}", advantage)


def _trend(measured: Mapping[Run, float], metric: str, factor: Factor) -> str:
    start = f"{factor.label} took {len(factor.values)} values, each once"
    try:
        numbers = [float(factor.of[run.folder]) for run in measured]
    except ValueError:
        return f"{start}, so that no single value can be assessed."
    found: Any = spearmanr(numbers, list(measured.values()))
    direction = "rises" if found.statistic > 0 else "falls"
    trend = f"{metric} {direction} with it" if found.pvalue < 0.05 else "no trend is shown"
    return f"{start}: {trend} (Spearman's rank correlation {found.statistic:.2f}, p = {found.pvalue:.2g})."


def _interval(pair: PairedDifference) -> str:
    if pair.low is None or pair.high is None:
        return ""
    low, high = (pair.low, pair.high) if pair.difference >= 0 else (-pair.high, -pair.low)
    return f" [{low:.3g}, {high:.3g}]"


def _basis(pair: PairedDifference) -> str:
    if pair.pairs:
        return f"over {pair.pairs} pair{'s' * (pair.pairs > 1)}"
    return "between the means of runs that cannot be paired"


def _evidence(pair: PairedDifference, spread: float | None) -> str:
    if spread is None:
        shown = "the interval still excludes 0" if pair.excludes_zero else "this is not shown"
        return f"but with one run each the spread between seeds is not known: {shown}"
    size, larger = f"the spread between seeds of {spread:.2g}", abs(pair.difference) > spread
    if larger and pair.excludes_zero:
        return f"which exceeds {size}"
    if larger:
        why = "the interval includes 0" if pair.low is not None else "there is only one pair"
        return f"which exceeds {size}, but {why}: not shown"
    if pair.excludes_zero:
        return f"which is within {size}, but the interval excludes 0: shown, and small"
    return f"but that is within {size}: not shown"
