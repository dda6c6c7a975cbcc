"""Report to Optuna what the files of a trial's training say: validations while it runs, and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from medsynth.errors import EndCode, InputError
from medsynth.runs.layout import METRICS
from medsynth.runs.run_end import RunEnd, read_run_end
from medsynth.runs.status import COMPLETED
from medsynth.search.objective import Objective, read_curve, value_of
from medsynth.search.study import REASON

_INTERRUPTED = RunEnd(EndCode.INTERRUPTED, "the search was interrupted")


class OptunaReporter:
    """Reports the trials in ``folder`` to an Optuna study.

    Args:
        study: the study that asked for the trials.
        folder: of the search; each trial's training is in a subfolder, named by its number.
        objectives: what the search optimizes, in the order of the study's directions.
        prunes: end a training early that does worse than others.
        val_every_images: interval of a training's validations. They are reported at its multiples, so that trainings
            of different batch sizes are comparable.
        max_images: length of a training; None: not known.
        stopping: tells whether the search is being interrupted; its trainings are then stopped.
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
        stopping: Callable[[], bool],
    ):
        self.study, self.folder, self.objectives = study, folder, objectives
        self._prunes, self._every, self._last = prunes, val_every_images, max_images or float("inf")
        self._stopping = stopping
        self._duplicates: dict[int, list[optuna.Trial]] = {}  # of trials that still run, by their number

    def watch(self, trial: optuna.Trial) -> Callable[[], RunEnd | None]:
        """Return a function to be called while the trial trains; when it returns an end, the training is stopped."""

        def check() -> RunEnd | None:
            if self._stopping():
                return _INTERRUPTED
            for images, value in self._report(trial):
                if images < self._last - self._every / 2 and trial.should_prune():  # not when it is done anyway
                    name = self.objectives[0].name
                    sentence = f"pruned: {name} {value:.4g} after {images:,} images, where other trials did better"
                    return RunEnd(EndCode.PRUNED, sentence)
            return None

        return check

    def tell(self, trial: optuna.Trial, record: dict[str, Any]) -> list[FrozenTrial]:
        """Report a trial's end from its job's ``record``; return the trials that are over, duplicates of it included.

        A trial that the search has interrupted, or that another process runs, stays open in the study.
        """
        end = read_run_end(record)
        if end is None or (end.code is EndCode.INTERRUPTED and self._stopping()):
            return []
        if end.code is EndCode.DUPLICATE:
            if self.frozen(record["same_as"]).state == TrialState.RUNNING:
                self._duplicates.setdefault(record["same_as"], []).append(trial)
                return []
            self._tell_as(trial, record["same_as"])
        elif end.status == COMPLETED:
            self._tell_values(trial)
        else:
            state = TrialState.PRUNED if end.code is EndCode.PRUNED else TrialState.FAIL
            self._tell_state(trial, state, end.message or "")
        duplicates = self._duplicates.pop(trial.number, [])
        for duplicate in duplicates:
            self._tell_as(duplicate, trial.number)
        return [self.frozen(each.number) for each in (trial, *duplicates)]

    def frozen(self, number: int) -> FrozenTrial:
        """Return the trial as the study has it now."""
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def _report(self, trial: optuna.Trial) -> list[tuple[int, float]]:
        """Report the validations that Optuna does not know; return the last of them, if there is one."""
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
        """Report the result of trial ``number``: the configurations are equal, and so are their results."""
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
