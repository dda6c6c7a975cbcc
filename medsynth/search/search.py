"""The loop of a search: ask Optuna for options, train with them in parallel jobs, and report the results to Optuna."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from medsynth.configuration.override_text import quoted
from medsynth.configuration.private_paths import overrides_without_paths
from medsynth.errors import InputError
from medsynth.search.objective import Objective
from medsynth.search.optuna_reporting import OptunaReporter
from medsynth.search.search_summary import result_text
from medsynth.search.space import Dimension, suggest
from medsynth.search.study import OVERRIDES, open_trial
from medsynth.sweep.job import Job, run_job
from medsynth.sweep.thread_budget import gpu_of, thread_count


@dataclass(frozen=True)
class Settings:
    """Settings of a search, after the space was parsed and the objectives were checked.

    Attributes:
        folder: holds the study and a subfolder for each trial, named by its number.
        fixed: overrides that all trials share.
        space: the options that are searched.
        objectives: what is optimized.
        trials: number of trials, those before a resume included.
        composition: returns the same text for overrides that describe the same training; raises InputError where they
            do not compose.
        val_every_images: see ``OptunaReporter``.
        max_images: see there.
        prunes: see there.
        jobs: number of trainings at a time; each has one GPU, where there are any.
        threads: CPU threads of each training; None: the cores divided among them.
        timeout: seconds after which no further training is started; None: no limit.
        every: seconds between two checks of a running training.
    """

    folder: Path
    fixed: tuple[str, ...]
    space: tuple[Dimension, ...]
    objectives: tuple[Objective, ...]
    trials: int
    composition: Callable[[Sequence[str]], str]
    val_every_images: int
    max_images: int | None = None
    prunes: bool = False
    jobs: int = 1
    threads: int | None = None
    timeout: float | None = None
    every: float = 2.0


class Search:
    """Runs trials until their number is reached.

    Args:
        study: Optuna's study.
        settings: of the search.
        say: called with one line for each trial that is over.
        started: called with the overrides of all trials, whenever one starts.
    """

    def __init__(
        self,
        study: optuna.Study,
        settings: Settings,
        *,
        say: Callable[[str], None] = print,
        started: Callable[[list[list[str]]], None] = lambda jobs: None,
    ):
        self.study, self.settings, self.say, self.started = study, settings, say, started
        self._stop = threading.Event()
        self.reporter = OptunaReporter(
            study,
            settings.folder,
            settings.objectives,
            prunes=settings.prunes,
            val_every_images=settings.val_every_images,
            max_images=settings.max_images,
            stopping=self._stop.is_set,
        )
        self._running: dict[Future, tuple[optuna.Trial, int]] = {}
        self._left = [trial.number for trial in self._trials() if trial.state == TrialState.RUNNING]
        self._begun, self._over = time.monotonic(), 0

    def run(self) -> None:
        """Run until all trials are over or the time is up. What an interruption leaves, the next search resumes."""
        with ThreadPoolExecutor(self.settings.jobs) as pool:
            try:
                while True:
                    self._fill(pool)
                    if not self._running:
                        return
                    for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                        trial, _ = self._running.pop(future)
                        for over in self.reporter.tell(trial, future.result()):
                            self._say(over)
            finally:
                self._stop.set()  # seen by the watch of each training that still runs

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        """Start trainings until all places are taken, first those of trials that an earlier search left open."""
        in_time = time.monotonic() - self._begun < (self.settings.timeout or float("inf"))
        while in_time and len(self._running) < self.settings.jobs:
            if self._left:
                trial = open_trial(self.study, self._left.pop(0))
            elif len(self._trials()) < self.settings.trials:
                trial = self.study.ask()
            else:
                return
            place = min(set(range(self.settings.jobs)) - {place for _, place in self._running.values()})
            self._running[pool.submit(self._train, self._job(trial), trial, place)] = (trial, place)

    def _job(self, trial: optuna.Trial) -> Job:
        folder, chosen = self.settings.folder, suggest(self.settings.space, trial)
        trial.set_user_attr(OVERRIDES, chosen)
        self.started([trial.user_attrs.get(OVERRIDES, []) for trial in self._trials()])
        name, title = ",".join(chosen), ",".join(overrides_without_paths(chosen))
        try:
            composition = self.settings.composition([*self.settings.fixed, *chosen])
        except InputError:
            composition = None  # the training reports why, in its own folder
        place = (f"sweep.folder={quoted(folder)}", f"sweep.job={trial.number}", f"sweep.name={quoted(title)}")
        overrides = (*self.settings.fixed, *chosen, *place)
        return Job(trial.number, folder / str(trial.number), name, tuple(chosen), overrides, composition)

    def _train(self, job: Job, trial: optuna.Trial, place: int) -> dict[str, Any]:
        jobs = self.settings.jobs
        return run_job(
            job,
            threads=self.settings.threads or thread_count(jobs),
            gpu=gpu_of(place, jobs),
            watch=self.reporter.watch(trial),
            every=self.settings.every,
        )

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _say(self, trial: FrozenTrial) -> None:
        self._over += 1
        left = self.settings.trials - sum(each.state.is_finished() for each in self._trials())
        minutes = (time.monotonic() - self._begun) / self._over * left / 60
        time_left = f"  (about {max(1, round(minutes))} min left)" if left > 0 else ""
        options = " ".join(trial.user_attrs[OVERRIDES])
        self.say(f"trial {trial.number}: {result_text(trial, self.settings.objectives)}  {options}{time_left}")
