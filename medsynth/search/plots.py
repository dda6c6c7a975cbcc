"""Optuna's own plots of a search, for its page."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

from medsynth.report.figures import optuna_figure
from medsynth.report.run_files import entry
from medsynth.report.search_plots import PARALLEL, SearchPlot
from medsynth.runs.layout import SWEEP
from medsynth.runs.records import read_json
from medsynth.search.study import STUDY, quiet
from medsynth.search.study_file import check_study

_FEWEST = 2  # completed trials of a plot; importance needs 4


def search_plots(folder: Path) -> list[SearchPlot]:
    """Return the plots of the search in ``folder``: history, importance, slices and parallel axes for each objective.

    Empty where the folder holds no search, or fewer than two trials completed.

    Raises:
        InputError: study.db is no study, or a stranger's that could do harm.
    """
    path = folder / STUDY
    if not path.is_file():
        return []
    check_study(path)
    connect = functools.partial(sqlite3.connect, f"file:{path.absolute().as_posix()}?mode=ro", uri=True)
    with quiet():
        storage = optuna.storages.RDBStorage(
            "sqlite:///" + STUDY, engine_kwargs={"creator": connect}, skip_table_creation=True
        )
        study = optuna.load_study(study_name=None, storage=storage)
        completed = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        return list(_plots(study, _names(folder, study), completed)) if len(completed) >= _FEWEST else []


def _names(folder: Path, study: optuna.Study) -> list[str]:
    """Return the objectives' names, of which sweep.json records the first and what was typed."""
    record = read_json(folder / SWEEP)
    typed = entry(record, "search", "objectives")
    names = [str(name) for name in typed] if isinstance(typed, list) else [str(record.get("objective", "objective"))]
    count = len(study.directions)
    return (names + [f"objective {number + 1}" for number in range(len(names), count)])[:count]


def _plots(study: optuna.Study, names: list[str], completed: list[FrozenTrial]) -> Iterator[SearchPlot]:
    for which, name in enumerate(names):
        target: dict[str, Any] = {"target_name": name}
        if len(names) > 1:
            target["target"] = functools.partial(_value, which)
        yield from _drawn(
            "history", f"History of {name}", lambda t=target: visualization.plot_optimization_history(study, **t)
        )
        searched = set().union(*(trial.params for trial in completed))
        if len(searched) > 1 and len({_value(which, trial) for trial in completed}) >= 4:
            yield from _drawn(
                "importance", f"Importance of the options for {name}", lambda t=target: _importances(study, t)
            )
        yield from _drawn("slice", f"{name} by each option", lambda t=target: visualization.plot_slice(study, **t))
        yield from _drawn(
            PARALLEL,
            f"Parallel coordinates of {name}",
            lambda t=target: visualization.plot_parallel_coordinate(study, **t),
        )


def _importances(study: optuna.Study, target: dict[str, Any]) -> Any:
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return visualization.plot_param_importances(study, evaluator=evaluator, **target)


def _drawn(kind: str, title: str, draw: Callable[[], Any]) -> Iterator[SearchPlot]:
    try:
        figure = draw()
    except (ValueError, RuntimeError):  # trials without an option in common
        return
    yield SearchPlot(kind, title, optuna_figure(figure))


def _value(which: int, trial: FrozenTrial) -> float:
    return float(trial.values[which])
