"""The result of a search as text: the best trials, the command that repeats one, the importance of the options."""

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
from medsynth.terminal import table

_SHOWN = 10  # of the best trials with several objectives


def search_summary(study: optuna.Study, objectives: Sequence[Objective], folder: str, fixed: Sequence[str]) -> str:
    """Return the lines that a search prints at its end.

    Args:
        study: with all trials.
        objectives: of the search.
        folder: of the search, as a user would type it.
        fixed: overrides that all trials share.

    Raises:
        InputError: no trial completed.
    """
    trials = study.get_trials(deepcopy=False)
    best = best_trials(study)
    if not best:
        reasons = [trial.user_attrs[REASON] for trial in trials if trial.user_attrs.get(REASON)]
        why = f"; the last reason: {reasons[-1]}" if reasons else "."
        raise InputError(f"None of {len(trials)} trials in {folder} completed{why}")
    several = len(objectives) > 1
    title = "Trials that no other trial beats in all objectives" if several else "The best trial"
    lines = [f"\n{title}, of {_counted(trials)}:"]
    lines += _table(best[:_SHOWN], objectives, folder)
    lines += [f"  and {len(best) - _SHOWN} more"] if len(best) > _SHOWN else []
    first = [*fixed, *best[0].user_attrs[OVERRIDES]]
    lines.append(
        f"To repeat {'the first of them' if several else 'it'}:\n  {shlex.join(['python', 'train.py', *first])}"
    )
    for which, objective in enumerate(objectives):
        lines += _importance_lines(objective, importances(study, objectives, which))
    return "\n".join(lines)


def _table(trials: Sequence[FrozenTrial], objectives: Sequence[Objective], folder: str) -> list[str]:
    better = {"minimize": "lower", "maximize": "higher"}
    head = (*(f"{o.name} ({better[o.direction]})" for o in objectives), "options", "folder")
    rows = [
        (*(f"{value:.4g}" for value in trial.values), _options(trial), str(Path(folder) / str(trial.number)))
        for trial in trials
    ]
    reasons = [f"  trial {t.number}: {t.user_attrs[REASON]}" for t in trials if t.user_attrs.get(REASON)]
    return [*table(head, rows, left=(len(head) - 2, len(head) - 1)), *reasons]


def result_text(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    """Return the values of a trial, ``val/fd_mini 12.3, seconds 40``, or why there are none."""
    reason = trial.user_attrs.get(REASON, "")
    if trial.state == TrialState.COMPLETE:
        values = ", ".join(f"{o.name} {value:.4g}" for o, value in zip(objectives, trial.values, strict=True))
        return f"{values} ({reason})" if reason else values
    return reason if trial.state == TrialState.PRUNED else f"failed: {reason}"


def _counted(trials: Sequence[FrozenTrial]) -> str:
    """Return the number of trials: ``7 (2 failed, 1 pruned)``."""
    names = {TrialState.FAIL: "failed", TrialState.PRUNED: "pruned", TrialState.RUNNING: "not finished"}
    counts = Counter(names[trial.state] for trial in trials if trial.state in names)
    others = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{len(trials)} ({others})" if others else str(len(trials))


def _options(trial: FrozenTrial) -> str:
    return " ".join(trial.user_attrs[OVERRIDES])


def _importance_lines(objective: Objective, shares: dict[str, float]) -> list[str]:
    if len(shares) < 2:
        return []
    named = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return [f"Importance of the options for {objective.name} (estimated by PED-ANOVA): {named}"]
