"""The options ``search.*``: checked, and those of an earlier search where it is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsynth.errors import InputError
from medsynth.runs.layout import SWEEP, read_json
from medsynth.search.study import PRUNERS, SAMPLERS, STUDY

RECORD = "search"  # in sweep.json: the options
_PLACES = ("folder", "resume", "jobs", "threads", "timeout")  # of this start alone
_DECIDED = ("objectives", "directions", "train")  # at the first start: the study stands on them


@dataclass(frozen=True)
class Options:
    """``conf/search.yaml`` after it was checked."""

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
    train: tuple[str, ...]

    def recorded(self) -> dict[str, Any]:
        """What a resumed search starts from, as JSON."""
        return {key: value for key, value in asdict(self).items() if key not in (*_PLACES, "resumed")}


def read_options(given: dict[str, Any], typed: Sequence[str]) -> Options:
    """The options of a search, or of the one in ``resume``, of which what was ``typed`` is changed.

    Raises:
        InputError: names the option and what would be right.
    """
    options = dict(given)
    resume, folder = options.pop("resume"), Path(options["folder"]).expanduser()
    if resume is not None:
        folder = Path(str(resume)).expanduser()
        options |= _earlier(folder, {name: options[name] for name in typed if name in options})
    elif (folder / STUDY).exists():
        raise InputError(f"search.folder={folder} holds a search already: go on with it by search.resume={folder}.")
    _check_numbers(options)
    for name, choices in (("sampler", SAMPLERS), ("pruner", ("auto", *PRUNERS))):
        if options[name] not in choices:
            raise InputError(f"search.{name}={options[name]} is unknown: choose of {', '.join(choices)}.")
    for name in _DECIDED:
        options[name] = _words(options[name])
    return Options(**options | {"folder": folder, "resumed": resume is not None, "train": options["train"] or ()})


def _earlier(folder: Path, typed: dict[str, Any]) -> dict[str, Any]:
    """The options of the search in ``folder``, with those that are typed now."""
    earlier = read_json(folder / SWEEP).get(RECORD)
    if not earlier or not (folder / STUDY).is_file():
        raise InputError(
            f"search.resume={folder} is not the folder of a search: it holds no {SWEEP} and {STUDY} of one."
        )
    for name in _DECIDED:
        now, then = _words(typed.get(name)), _words(earlier[name])
        if now and sorted(now) != sorted(then or ()):
            what = "options of the training" if name == "train" else f"search.{name}"
            raise InputError(
                f"The search in {folder} has other {what}, {' '.join(then or ()) or 'the default'}: "
                "leave them out to go on with it, or give a new search.folder."
            )
    return earlier | {name: value for name, value in typed.items() if name not in _DECIDED}


def _check_numbers(options: dict[str, Any]) -> None:
    for name, least in (("trials", 1), ("jobs", 1), ("startup", 1), ("seed", 0)):
        if not isinstance(options[name], int) or options[name] < least:
            raise InputError(f"search.{name}={options[name]} must be a whole number, {least} or more.")
    for name, kinds in (("threads", int), ("timeout", int | float)):
        value = options[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or value <= 0):
            raise InputError(f"search.{name}={value} must be null or a number above 0.")


def _words(value: Any) -> tuple[str, ...] | None:
    """One word, or a list of them."""
    if value is None:
        return None
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)
