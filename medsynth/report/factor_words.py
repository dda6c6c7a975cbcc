"""One factor in a sentence: its best value against the second best, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy.stats import spearmanr

from medsynth.report.effects import PairedDifference, completed, differences, effects, seed_spread
from medsynth.report.factors import Factor
from medsynth.report.run import Run

_MANY = 8  # values without repetition: a search, where two values next to each other say nothing


def compared(jobs: Sequence[Run], metric: str, factor: Factor, *, highest: bool) -> str:
    """The best value of ``factor`` by its mean against the second best one, paired where the design is.

    A number that took many values, none of them twice, is told by its rank correlation instead.
    """
    known = [effect for effect in effects(jobs, metric) if effect.factor == factor and effect.mean is not None]
    if len(known) < 2:
        return f"{factor.label}: only {known[0].value} has completed runs, so there is nothing to compare it with."
    if len(known) >= _MANY and all(effect.count == 1 for effect in known):
        return _trend(completed(jobs, metric), metric, factor)
    ranked = sorted(known, key=lambda effect: effect.mean, reverse=highest)[:2]
    pairs = {frozenset((d.a, d.b)): d for d in differences(jobs, metric, factor)}
    found = pairs[frozenset(effect.value for effect in ranked)]
    if found.difference == 0:
        return f"{factor.label}={found.a} and {factor.label}={found.b} do not differ {_basis(found)}."
    ahead = found.difference >= 0 if highest else found.difference <= 0
    a, b = (found.a, found.b) if ahead else (found.b, found.a)
    several = f" (the best two of {len(known)} values, a choice that the interval does not allow for)"
    return (
        f"{factor.label}={a} is {abs(found.difference):.3g}{_ends(found)} better than {factor.label}={b} "
        f"{_basis(found)}, {_judged(found, seed_spread(jobs, metric))}{several * (len(known) > 2)}."
    )


def _trend(measured: Mapping[Run, float], metric: str, factor: Factor) -> str:
    start = f"{factor.label} took {len(factor.values)} values, none of them twice"
    try:
        numbers = [float(factor.of[run.folder]) for run in measured]
    except ValueError:
        return f"{start}, so that nothing can be said of one of them."
    found = spearmanr(numbers, list(measured.values()))
    what = (
        f"{metric} {'rises' if found.statistic > 0 else 'falls'} with it" if found.pvalue < 0.05 else "no trend shown"
    )
    return f"{start}: {what} (Spearman's rank correlation {found.statistic:.2f}, p = {found.pvalue:.2g})."


def _ends(found: PairedDifference) -> str:
    if found.low is None or found.high is None:
        return ""
    low, high = (found.low, found.high) if found.difference >= 0 else (-found.high, -found.low)
    return f" [{low:.3g}, {high:.3g}]"


def _basis(found: PairedDifference) -> str:
    if found.pairs:
        return f"over {found.pairs} pair{'s' * (found.pairs > 1)}"
    return "between the means of runs that cannot be paired"


def _judged(found: PairedDifference, spread: float | None) -> str:
    certain = found.low is not None and found.low < found.high and not found.low <= 0 <= found.high
    if spread is None:
        shown = "the interval leaves out 0 all the same" if certain else "this is not shown"
        return f"but with one run each the seeds' spread is not known: {shown}"
    size, larger = f"the seeds' spread of {spread:.2g}", abs(found.difference) > spread
    if larger and certain:
        return f"which exceeds {size}"
    if larger:
        why = "the interval includes 0" if found.low is not None else "there is no second pair"
        return f"which exceeds {size}, but {why}: not shown"
    if certain:
        return f"which lies within {size}, but the interval leaves out 0: shown, and small"
    return f"but that lies within {size}: not shown"
