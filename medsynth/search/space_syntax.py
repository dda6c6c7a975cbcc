"""Parsing of overrides in Hydra's grammar into the space of a search, and its check before the first training."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig

from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.compose import compose
from medsynth.configuration.input_errors import input_errors
from medsynth.errors import InputError
from medsynth.first_checks import FirstChecks
from medsynth.search.space import Choices, Dimension, Interval
from medsynth.sweep.hydra_callback import composition_of

_FILLED_IN = ("resume", "run_dir", "overrides", "sweep.folder", "sweep.job", "sweep.name")


def parse_space(overrides: Sequence[str]) -> tuple[tuple[str, ...], tuple[Dimension, ...]]:
    """Return the overrides with one value, and the space of those with several values.

    Raises:
        InputError: an override cannot be read, is given twice or is filled in, or none has several values.
    """
    fixed, space, keys = [], [], set()
    for text in overrides:
        override = _parsed(text)
        key = override.get_key_element().lstrip("+")
        if key in keys:
            raise InputError(f"{key} is given twice: give it once, with all of its choices.")
        if key in _FILLED_IN:
            raise InputError(f"{key}= is filled in for each trial: leave it out. search.resume= resumes a search.")
        if key in ("vary", "sweep"):
            raise InputError(
                f"{key}= is not an option of a search: name the options to search, such as loss=hinge,minimax."
            )
        keys.add(key)
        if override.is_sweep_override():
            space.append(_dimension(override))
        else:
            fixed.append(text)
    if not space:
        raise InputError(
            "There is nothing to search: give an option several values, such as loss=hinge,non_saturating."
        )
    return tuple(fixed), tuple(space)


def check_space(fixed: Sequence[str], space: Sequence[Dimension]) -> DictConfig:
    """Compose and check each choice and the ends of each interval, with the first values of all other options.

    Returns the configuration with the first values of all options.

    Raises:
        InputError: one of them does not compose, or cannot be trained.
    """
    first = {dimension.key: dimension.examples()[0] for dimension in space}
    others = [first | {dimension.key: value} for dimension in space for value in dimension.examples()[1:]]
    check = FirstChecks()
    configs = []
    for values in (first, *others):
        overrides = [*fixed, *_overrides(values)]
        configs.append(compose_checked("train", overrides))
        check(configs[-1], overrides)
    return configs[0]


def composition(overrides: Sequence[str]) -> str:
    """Return a hash of the training that the overrides describe; equal hashes are duplicates.

    Raises:
        InputError: they do not compose.
    """
    with input_errors("train", ()):
        return composition_of(compose("train", overrides))


def _overrides(values: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _parsed(text: str) -> Override:
    with input_errors("train", ()):
        return OverridesParser.create().parse_overrides([text])[0]  # whose errors name the override


def _dimension(override: Override) -> Dimension:
    key, value = override.get_key_element(), override._value
    tags = getattr(value, "tags", set())
    if tags - {"log"}:
        raise InputError(
            f"{key} has the tag {', '.join(sorted(tags - {'log'}))}: a search supports only tag(log, ...)."
        )
    if isinstance(value, IntervalSweep):
        assert value.start is not None  # Hydra's grammar requires both ends
        assert value.end is not None
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return Interval(key, value.start, value.end, log="log" in tags, whole=whole)
    if isinstance(value, RangeSweep):
        return _range(key, value)
    if not override.is_choice_sweep() or not hasattr(value, "list"):
        raise InputError(f"{override.input_line} has a pattern: name the choices, such as {key}=a,b.")
    return Choices(key, tuple(dict.fromkeys(override.sweep_string_iterator())))


def _range(key: str, value: RangeSweep) -> Interval:
    """Return the interval of Hydra's ``range``, which does not include its end."""
    numbers = list(value.range()) if value.step else []
    if not numbers:
        raise InputError(f"{key}=range({value.start},{value.stop},{value.step}) is empty: give a larger end.")
    whole = all(isinstance(number, int) for number in numbers)
    return Interval(key, min(numbers), max(numbers), step=abs(value.step), log="log" in value.tags, whole=whole)
