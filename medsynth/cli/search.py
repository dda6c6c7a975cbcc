"""The command ``medsynth search``: trainings whose options are chosen by Optuna."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.objectives import check_objectives, directions
from medsynth.errors import EndCode, InputError, sentence_of
from medsynth.files import make_writable
from medsynth.runs.lock import held
from medsynth.search.objective import COSTS, Objective, make_objectives
from medsynth.search.options import TRUST, Options, read_options
from medsynth.search.record import Record
from medsynth.search.search import Search, Settings
from medsynth.search.search_summary import search_summary
from medsynth.search.space import described
from medsynth.search.space_syntax import check_space, composition, parse_space
from medsynth.search.study import OVERRIDES, STUDY, Study, open_study, quiet
from medsynth.search.study_file import check_trials
from medsynth.sweep.recorded_arguments import check_jobs

_LOCK = ".search.lock"  # in the folder of the search
_SPACE = "space"  # attribute of the study


def run(config: DictConfig) -> None:
    """Run a search; print a line for each trial, and the best one at the end."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("medsynth search needs no -m: it starts several trainings by itself.")
    options = _options(config)
    settings, first, pruner = _settings(options)
    make_writable(options.folder)
    refusal = f"The search in {options.folder} runs in another process: wait for its end, or stop it first (Ctrl+C)."
    with held(options.folder / _LOCK, refusal), quiet(), _interruptible(options.folder):
        study = _study(options, settings, pruner)
        _check_trials(options, settings, study, first)
        record = Record(options, [dimension.key for dimension in settings.space], settings.objectives[0].name)
        print(_beginning(options, settings, len(study.trials)), flush=True)
        Search(study, settings, say=_say, started=record.started).run()
        record.finished([trial.user_attrs.get(OVERRIDES, []) for trial in study.trials])
        print(search_summary(study, settings.objectives, str(options.folder), settings.fixed), flush=True)
    print(f"More trials: medsynth search search.resume={options.folder} search.trials={2 * options.trials}")
    if first.report is not False:
        _report(options.folder)


def _options(config: DictConfig) -> Options:
    given = cast(dict[str, Any], OmegaConf.to_container(config.search))
    given["folder"] = config.search.folder  # resolved; the overrides of trainings are not, whose ${...} are theirs
    return read_options(given | {"train": [*given["train"], *(_search_path() if given["train"] else ())]}, _typed())


def _settings(options: Options) -> tuple[Settings, DictConfig, str]:
    """Return the settings, the configuration of a training with the first of all choices, and the pruner."""
    fixed, space = parse_space(options.train)
    first = check_space(fixed, space)
    # Asking the metrics imports PyTorch, and a training's own objective is always one to minimize.
    better = directions(first) if options.objectives and options.directions is None else {}
    objectives = make_objectives(options.objectives or [first.objective], options.directions, better)
    check_objectives(first, options.objectives or (), costs=COSTS, overrides=options.train)
    pruner = _pruner(options.pruner, objectives)
    settings = Settings(
        folder=options.folder,
        fixed=fixed,
        space=space,
        objectives=objectives,
        trials=options.trials,
        composition=composition,
        val_every_images=first.val_every_images,
        max_images=None if first.max_epochs else first.max_images,
        jobs=options.jobs,
        threads=options.threads,
        timeout=options.timeout,
        prunes=pruner != "none",
    )
    return settings, first, pruner


def _study(options: Options, settings: Settings, pruner: str) -> Study:
    """Open Optuna's study; it records the space.

    Raises:
        InputError: it is that of another space.
    """
    study = open_study(
        options.folder,
        settings.objectives,
        sampler=options.sampler,
        pruner=pruner,
        seed=options.seed,
        startup=options.startup,
        val_every_images=settings.val_every_images,
        max_images=settings.max_images,
    )
    space = described(settings.space)
    if study.user_attrs.get(_SPACE, space) != space:
        raise InputError(f"{options.folder} holds a search of another space: give another search.folder.")
    study.set_user_attr(_SPACE, space)
    return study


def _check_trials(options: Options, settings: Settings, study: Study, first: DictConfig) -> None:
    """Refuse trials of an earlier search that could do harm, since those left open are resumed."""
    if not options.trust:
        keys = [dimension.key for dimension in settings.space]
        check_trials(study.get_trials(deepcopy=False), keys, options.folder / STUDY)
        presents = {trial.number: first for trial in study.get_trials(deepcopy=False)}
        check_jobs(options.folder, presents, option=TRUST)


def _typed() -> list[str]:
    """Return the names of the options ``search.*`` on the command line."""
    return [text.lstrip("+").partition("=")[0].removeprefix("search.") for text in HydraConfig.get().overrides.task]


def _search_path() -> list[str]:
    """Return the folder given by --config-dir as an override for the trainings."""
    sources = HydraConfig.get().runtime.config_sources
    return [f"hydra.searchpath=[file://{source.path}]" for source in sources if source.provider == "command-line"]


def _pruner(name: str, objectives: tuple[Objective, ...]) -> str:
    able = len(objectives) == 1 and objectives[0].measured
    if name == "auto":
        return "median" if able else "none"
    if name != "none" and not able:
        raise InputError(
            f"search.pruner={name} needs a single objective that is measured in validation, such as val/fd_mini: "
            "choose search.pruner=none."
        )
    return name


def _report(folder: Path) -> None:
    """Write the search's report.html; print why where it cannot be written."""
    try:
        from medsynth.report.page import write_report  # here: its libraries take a second to import
        from medsynth.search.plots import search_plots

        print(f"Report: {write_report([folder], folder / 'report.html', plots=search_plots(folder))}")
    except Exception as error:
        print(f"The report could not be written: {sentence_of(error)}")


def _beginning(options: Options, settings: Settings, asked: int) -> str:
    goals = ", ".join(f"{objective.direction} {objective.name}" for objective in settings.objectives)
    keys = ", ".join(dimension.key for dimension in settings.space)
    before = f", {asked} of them from before" if asked else ""
    return f"Searching {keys} to {goals}: {options.trials} trials{before}; all files are in {options.folder}"


def _say(line: str) -> None:
    print(line, flush=True)


@contextlib.contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """On Ctrl-C or SIGTERM stop the trainings and raise an error that tells how to resume the search."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as interruption:
        sentence = f"Stopped: medsynth search search.resume={folder} resumes it."
        raise InputError(sentence, code=EndCode.INTERRUPTED) from interruption
    finally:
        signal.signal(signal.SIGTERM, before)
