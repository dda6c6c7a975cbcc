"""What a search found, in words: the best trials, the command that repeats them, and which options mattered."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from medsynth.errors import InputError
from medsynth.search.objective import Objective
from medsynth.search.study import OVERRIDES, REASON, best_trials, importances

_SHOWN = 10  # of the best trials with several objectives


def answer(study: optuna.Study, objectives: Sequence[Objective], folder: str, fixed: Sequence[str]) -> str:
    """Some lines for the end of a search.

    Args:
        folder: of the search, as the user would type it.
        fixed: overrides that all trials share.

    Raises:
        InputError: no trial completed.
    """
    trials = study.get_trials(deepcopy=False)
    best = best_trials(study)
    if not best:
        reasons = [trial.user_attrs[REASON] for trial in trials if trial.user_attrs.get(REASON)]
        why = f"; the last one says: {reasons[-1]}" if reasons else "."
        raise InputError(f"None of {len(trials)} trials in {folder} completed{why}")
    several = len(objectives) > 1
    title = "Trials that none beats in everything" if several else "The best trial"
    lines = [f"\n{title}, of {_counted(trials)}:"]
    lines += [
        f"  {came_to(trial, objectives)}  {_options(trial)}  {Path(folder) / str(trial.number)}"
        for trial in best[:_SHOWN]
    ]
    lines += [f"  and {len(best) - _SHOWN} more"] if len(best) > _SHOWN else []
    first = [*fixed, *best[0].user_attrs[OVERRIDES]]
    lines.append(
        f"{'The first of them' if several else 'It'} is repeated by\n  {shlex.join(['python', 'train.py', *first])}"
    )
    for which, objective in enumerate(objectives):
        lines += _importance_lines(objective, importances(study, objectives, which))
    return "\n".join(lines)


def came_to(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    """``val/fd_mini 12.3, seconds 40``, or why there is no value."""
    reason = trial.user_attrs.get(REASON, "")
    if trial.state == TrialState.COMPLETE:
        values = ", ".join(f"{o.name} {value:.4g}" for o, value in zip(objectives, trial.values, strict=True))
        return f"{values} ({reason})" if reason else values
    return reason if trial.state == TrialState.PRUNED else f"failed: {reason}"


def _counted(trials: Sequence[FrozenTrial]) -> str:
    """``7 (2 failed, 1 pruned)``."""
    names = {TrialState.FAIL: "failed", TrialState.PRUNED: "pruned", TrialState.RUNNING: "not finished"}
    counts = Counter(names[trial.state] for trial in trials if trial.state in names)
    others = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{len(trials)} ({others})" if others else str(len(trials))


def _options(trial: FrozenTrial) -> str:
    return " ".join(trial.user_attrs[OVERRIDES])


def _importance_lines(objective: Objective, shares: dict[str, float]) -> list[str]:
    if len(shares) < 2:
        return []
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return [f"What made the better trials better in {objective.name} (PED-ANOVA, a hint): {told}"]
