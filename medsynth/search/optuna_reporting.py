"""From the files of a trial's training to what Optuna is told: validations while it runs, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from medsynth.errors import InputError
from medsynth.runs.layout import METRICS
from medsynth.runs.status import COMPLETED, DUPLICATE, RUNNING
from medsynth.search.objective import Objective, read_curve, value_of
from medsynth.search.study import REASON

PRUNED = "pruned"  # begins the reason of a job that was ended because others did better
INTERRUPTED = "the search was interrupted"


class Telling:
    """What a study is told of the trials in ``folder``.

    Args:
        prunes: whether a run that does worse than others is ended early.
        val_every_images, max_images: of a run (None: not known); by the first, runs of different batch sizes compare.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: Path,
        objectives: Sequence[Objective],
        *,
        prunes: bool,
        val_every_images: int,
        max_images: int | None,
    ):
        self.study, self.folder, self.objectives = study, folder, objectives
        self._prunes, self._every, self._last = prunes, val_every_images, max_images or float("inf")
        self._duplicates: dict[int, list[optuna.Trial]] = {}  # of trials that still run, by their number

    def watch(self, trial: optuna.Trial, stopped: Callable[[], bool]) -> Callable[[], str | None]:
        """What is asked while the trial trains; a sentence ends it."""

        def ask() -> str | None:
            if stopped():
                return INTERRUPTED
            for images, value in self._report(trial):
                if images < self._last - self._every / 2 and trial.should_prune():  # not when it is done anyway
                    name = self.objectives[0].name
                    return f"{PRUNED}: {name} {value:.4g} after {images:,} images, where other trials did better"
            return None

        return ask

    def tell(self, trial: optuna.Trial, record: dict[str, Any]) -> list[FrozenTrial]:
        """What the job's ``record`` says; returns the trials that are over: also those that only repeated this one.

        A trial that was interrupted, or that another process runs, stays open in the study.
        """
        status, reason = record["status"], record.get("reason") or ""
        if status == RUNNING or reason == INTERRUPTED:
            return []
        if status == DUPLICATE:
            if self.frozen(record["same_as"]).state == TrialState.RUNNING:
                self._duplicates.setdefault(record["same_as"], []).append(trial)
                return []
            self._tell_as(trial, record["same_as"])
        elif status == COMPLETED:
            self._tell_values(trial)
        else:
            state = TrialState.PRUNED if reason.startswith(PRUNED) else TrialState.FAIL
            self._tell_state(trial, state, reason)
        duplicates = self._duplicates.pop(trial.number, [])
        for duplicate in duplicates:
            self._tell_as(duplicate, trial.number)
        return [self.frozen(each.number) for each in (trial, *duplicates)]

    def frozen(self, number: int) -> FrozenTrial:
        """The trial as the study has it now."""
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def _report(self, trial: optuna.Trial) -> list[tuple[int, float]]:
        """Tell Optuna the validations that it does not know; returns the last of them, if there is one."""
        if not self._prunes:
            return []
        known, new = self.frozen(trial.number).intermediate_values, []
        for images, value in read_curve(self.folder / str(trial.number) / METRICS, self.objectives[0].name):
            step = max(1, round(images / self._every)) * self._every  # validations are at whole batches of any size
            if step not in known:
                trial.report(value, step)
                new = [(images, value)]
        return new

    def _tell_values(self, trial: optuna.Trial) -> None:
        try:
            values = [value_of(self.folder / str(trial.number), objective.name) for objective in self.objectives]
        except InputError as error:
            self._tell_state(trial, TrialState.FAIL, str(error))
            return
        self._report(trial)
        self.study.tell(trial, values)

    def _tell_as(self, trial: optuna.Trial, number: int) -> None:
        """What the trial ``number``, of the same composition, came to: to train again would bring the same."""
        first = self.frozen(number)
        if first.state == TrialState.COMPLETE:
            trial.set_user_attr(REASON, f"the same as trial {number}")
            self.study.tell(trial, first.values)
            return
        for step, value in first.intermediate_values.items():
            trial.report(value, step)
        self._tell_state(trial, first.state, f"{first.user_attrs.get(REASON, '')} (trial {number} was the same)")

    def _tell_state(self, trial: optuna.Trial, state: TrialState, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=state)
