"""Optuna's study of a search: kept in one SQLite file, silent, and asked in the words of this program."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from medsynth.errors import InputError
from medsynth.search.objective import MAXIMIZE, Objective

STUDY = "study.db"
SAMPLERS = ("tpe", "nsgaii", "random")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive_halving")
OVERRIDES, REASON = "overrides", "reason"  # attributes of a trial; a completed one has a reason if it is a copy
_BEST = 25.0  # percent of the runs that pruner=percentile lets go on
_NAME = "search"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna's log and its notes about what is experimental are not for the user of this program."""
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
    """The study in ``folder``, made where there is none.

    Args:
        startup: trials that are drawn at random before the sampler learns; half as many before anything is pruned.
        val_every_images: of a run; no run is ended before its first validation.
        max_images: of a run; None: not known before it starts.

    Raises:
        InputError: study.db is no study, or one of other objectives.
    """
    path = folder / STUDY
    directions = [objective.direction for objective in objectives]
    address = f"sqlite:///{path.absolute()}"
    try:
        storage = optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}})
        study = optuna.create_study(storage=storage, study_name=_NAME, directions=directions, load_if_exists=True)
        asked = len(study.get_trials(deepcopy=False))
    except Exception as error:  # SQLAlchemy's and Optuna's errors have no base in common
        raise InputError(f"{path} cannot be read as the study of a search: name another folder.") from error
    if [direction.name.lower() for direction in study.directions] != directions:
        raise InputError(f"{path} is the study of other objectives: name another folder.")
    study.sampler = _sampler(sampler, seed + asked, startup)  # a resumed study must not repeat its first draws
    study.pruner = _pruner(pruner, startup, val_every_images, max_images)
    return study


def alive(study: optuna.Study, number: int) -> optuna.Trial:
    """The trial ``number`` of a search that ended before its run did, to go on with."""
    frozen = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)
    return optuna.Trial(study, frozen._trial_id)  # the only way to a trial that was asked by another process


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or with several objectives those that no other beats in all; in the order of their values.

    Trials that repeat the composition of another are left out; empty where none was completed.
    """
    completed = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if not completed:
        return []
    best = [study.best_trial] if len(study.directions) == 1 else study.best_trials
    values = [trial.values for trial in best]
    found = [trial for trial in completed if trial.values in values and not trial.user_attrs.get(REASON)]
    return sorted(found, key=lambda trial: (trial.values, trial.number))[: None if len(study.directions) > 1 else 1]


def importances(study: optuna.Study, objectives: Sequence[Objective], which: int = 0) -> dict[str, float]:
    """How much of what tells the better trials from the others each option explains (PED-ANOVA, Watanabe et al. 2023).

    Shares that sum to 1; empty where too few trials were completed to tell.
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
