"""Optuna's study of a search: one SQLite file, its samplers and pruners, the best trials and the importances."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna import Study as Study
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from medsynth.errors import InputError
from medsynth.search.objective import MAXIMIZE, Direction, Objective

STUDY = "study.db"
SAMPLERS = ("tpe", "nsgaii", "random")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive_halving")
OVERRIDES, REASON = "overrides", "reason"  # attributes of a trial; of completed trials only duplicates have a reason
_BEST = 25.0  # percent of the runs that pruner=percentile continues
_NAME = "search"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log and its warnings about experimental features."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (optuna.exceptions.ExperimentalWarning, UserWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module=r"optuna.*")
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def open_study(
    folder: Path,
    objectives: Sequence[Objective],
    *,
    sampler: str,
    pruner: str,
    seed: int,
    startup: int,
    val_every_images: int,
    max_images: int | None,
) -> optuna.Study:
    """Open the study in ``folder``, or create it.

    Args:
        folder: of the search.
        objectives: their directions are those of the study.
        sampler: one of ``SAMPLERS``.
        pruner: one of ``PRUNERS``.
        seed: of the sampler.
        startup: trials drawn at random before the sampler learns; half as many complete before any is pruned.
        val_every_images: interval of a run's validations; no run is stopped before the first.
        max_images: length of a run; None: not known before it starts.

    Raises:
        InputError: study.db is not a study, or is that of other objectives.
    """
    path = folder / STUDY
    directions: list[Direction] = [objective.direction for objective in objectives]
    # By a function, since an address would give characters such as ? in the path a meaning.
    connect = functools.partial(sqlite3.connect, path, timeout=60, check_same_thread=False)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{STUDY}", engine_kwargs={"creator": connect})
        study = optuna.create_study(storage=storage, study_name=_NAME, directions=directions, load_if_exists=True)
        asked = len(study.get_trials(deepcopy=False))
    except Exception as error:  # SQLAlchemy's and Optuna's errors have no base in common
        raise InputError(f"{path} cannot be read as the study of a search: give another search.folder.") from error
    if [direction.name.lower() for direction in study.directions] != directions:
        raise InputError(f"{path} is the study of other objectives: give another search.folder.")
    study.sampler = _sampler(sampler, seed + asked, startup)  # a resumed study must not repeat its first draws
    study.pruner = _pruner(pruner, startup, val_every_images, max_images)
    return study


def open_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """Return trial ``number``, which an earlier search left open, so that it can be continued."""
    frozen = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)
    return optuna.Trial(study, frozen._trial_id)  # the only way to a trial that was asked by another process


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the best trial; with several objectives the Pareto front, sorted by value.

    Duplicates of other trials are left out. Empty: no trial completed.
    """
    completed = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if not completed:
        return []
    best = [study.best_trial] if len(study.directions) == 1 else study.best_trials
    values = [trial.values for trial in best]
    found = [trial for trial in completed if trial.values in values and not trial.user_attrs.get(REASON)]
    return sorted(found, key=lambda trial: (trial.values, trial.number))[: None if len(study.directions) > 1 else 1]


def importances(study: optuna.Study, objectives: Sequence[Objective], which: int = 0) -> dict[str, float]:
    """Estimate the importance of each option for objective ``which`` by PED-ANOVA (Watanabe et al. 2023).

    Returns fractions that sum to 1; empty: too few trials completed.
    """
    sign = -1 if objectives[which].direction == MAXIMIZE else 1
    completed = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len({sign * trial.values[which] for trial in completed}) < 4:
        return {}
    try:
        with quiet():
            evaluator = PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, target=lambda trial: sign * trial.values[which]
            )
    except (ValueError, RuntimeError):  # trials without an option in common
        return {}
    return {name: float(share) for name, share in found.items()}


def _sampler(name: str, seed: int, startup: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
    if name == "nsgaii":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(2, startup))
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(name: str, startup: int, val_every_images: int, max_images: int | None) -> optuna.pruners.BasePruner:
    pruners, first = optuna.pruners, startup // 2
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=first)
    if name == "percentile":
        return pruners.PercentilePruner(_BEST, n_startup_trials=first)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=val_every_images, max_resource=max_images or "auto")
    if name == "successive_halving":
        return pruners.SuccessiveHalvingPruner(min_resource=val_every_images)
    return pruners.NopPruner()
