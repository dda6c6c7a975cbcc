"""The options ``search.*``: their checks, and those of the earlier search where one is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medsynth.configuration.trusted_paths import check_links
from medsynth.errors import InputError
from medsynth.runs.layout import SWEEP
from medsynth.runs.records import read_json
from medsynth.search.objective import todays_name
from medsynth.search.study import PRUNERS, SAMPLERS, STUDY
from medsynth.search.study_file import check_study
from medsynth.sweep.recorded_arguments import check_arguments, texts_of, without_trust

TRUST = "search.trust=true"  # what to type to vouch for an earlier search
RECORD = "search"  # in sweep.json: the options
_OF_THIS_START = ("folder", "resume", "trust", "jobs", "threads", "timeout")  # not recorded
_FIXED = ("objectives", "directions", "train")  # by the first start: Optuna's study depends on them


@dataclass(frozen=True)
class Options:
    """The options of conf/search.yaml, checked.

    Attributes:
        trials: number of trainings, those before a resume included.
        objectives: names of metrics or costs; None: the objective of the training.
        directions: ``minimize`` or ``maximize`` for each objective; None: the usual ones.
        sampler: one of ``study.SAMPLERS``.
        startup: number of trials drawn at random before the sampler learns.
        pruner: ``auto`` or one of ``study.PRUNERS``.
        seed: of the sampler.
        jobs: number of trainings at a time.
        threads: CPU threads of each training; None: the cores divided among them.
        timeout: seconds after which no further training is started; None: no limit.
        folder: of the search.
        resumed: the search was begun earlier.
        trust: the user vouches for the folder of the earlier search.
        train: overrides of the trainings, as typed.
    """

    trials: int
    objectives: tuple[str, ...] | None
    directions: tuple[str, ...] | None
    sampler: str
    startup: int
    pruner: str
    seed: int
    jobs: int
    threads: int | None
    timeout: float | None
    folder: Path
    resumed: bool
    trust: bool
    train: tuple[str, ...]

    def recorded(self) -> dict[str, Any]:
        """Return the options that a resumed search starts from, as they are written to sweep.json."""
        return {key: value for key, value in asdict(self).items() if key not in (*_OF_THIS_START, "resumed")}


def read_options(given: dict[str, Any], typed: Sequence[str]) -> Options:
    """Check the options of a search; where one is resumed, start from its recorded options.

    Args:
        given: the block ``search`` of the configuration.
        typed: names of the options on the command line; they change those of a resumed search.

    Raises:
        InputError: names the option and what would be right.
    """
    options = dict(given)
    resume, folder = options.pop("resume"), Path(options["folder"]).expanduser()
    if resume is not None:
        folder = Path(str(resume)).expanduser()
        typed_values = {name: options[name] for name in typed if name in options}
        options |= _earlier(folder, typed_values, trusted=options["trust"])
    elif (folder / STUDY).exists():
        raise InputError(f"search.folder={folder} already holds a search: resume it by search.resume={folder}.")
    _check_numbers(options)
    for name, choices in (("sampler", SAMPLERS), ("pruner", ("auto", *PRUNERS))):
        if options[name] not in choices:
            raise InputError(f"search.{name}={options[name]} is unknown: choose one of {', '.join(choices)}.")
    for name in _FIXED:
        options[name] = _texts(options[name])
    return Options(**options | {"folder": folder, "resumed": resume is not None, "train": options["train"] or ()})


def _earlier(folder: Path, typed: dict[str, Any], *, trusted: bool) -> dict[str, Any]:
    """Return the options of the search in ``folder``, changed by those that are typed now."""
    earlier = read_json(folder / SWEEP).get(RECORD)
    names = {field.name for field in fields(Options)} - {*_OF_THIS_START, "resumed"}
    if not isinstance(earlier, dict) or set(earlier) != names or not (folder / STUDY).is_file():
        raise InputError(
            f"search.resume={folder} is not the folder of a search: it holds no {SWEEP} and {STUDY} of one."
        )
    if not trusted:
        check_links(folder, option=TRUST)
        check_arguments(texts_of(earlier["train"], folder / SWEEP), folder / SWEEP, option=TRUST)
        check_study(folder / STUDY)
    earlier["train"] = without_trust(_texts(earlier["train"]) or ())
    if earlier["objectives"] is not None:
        earlier["objectives"] = [todays_name(name) for name in _texts(earlier["objectives"]) or ()]
    for name in _FIXED:
        now, then = _texts(typed.get(name)), _texts(earlier[name])
        if now and sorted(now) != sorted(then or ()):
            what = "options of the training" if name == "train" else f"search.{name}"
            raise InputError(
                f"The search in {folder} has other {what}, {' '.join(then or ()) or 'the default'}: "
                "leave them out to resume it, or give a new search.folder."
            )
    return earlier | {name: value for name, value in typed.items() if name not in _FIXED}


def _check_numbers(options: dict[str, Any]) -> None:
    for name, least in (("trials", 1), ("jobs", 1), ("startup", 1), ("seed", 0)):
        if type(options[name]) is not int or options[name] < least:
            raise InputError(f"search.{name}={options[name]} must be a whole number, {least} or more.")
    for name, kinds in (("threads", int), ("timeout", int | float)):
        value = options[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or value <= 0):
            raise InputError(f"search.{name}={value} must be null or a number above 0.")


def _texts(value: Any) -> tuple[str, ...] | None:
    """Return one text or a list of texts as a tuple."""
    if value is None:
        return None
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)
