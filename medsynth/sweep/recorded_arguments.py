"""Check of the arguments that a sweep or a search has recorded, and of its jobs' folders, before it is resumed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from medsynth.configuration.compose import conf_folder
from medsynth.configuration.moved import load_configuration
from medsynth.configuration.plain_names import is_plain
from medsynth.configuration.trusted_paths import check_configuration
from medsynth.errors import InputError
from medsynth.runs.layout import COMPOSITION

_LAUNCHERS = ("basic", "joblib", "submitit_local", "submitit_slurm")
# Options of launchers that only say how much runs where. Others are commands, as setup= of SLURM, or places.
_OF_LAUNCHERS = (
    *("n_jobs", "timeout_min", "cpus_per_task", "gpus_per_node", "gpus_per_task", "tasks_per_node", "nodes", "mem_gb"),
    *("partition", "qos", "account", "constraint", "array_parallelism", "max_num_timeout", "name"),
)
_OF_SWEEPS = ("sweep.keep", "sweep.threads", "sweep.processes")
_FILLED_IN = re.compile(r"(resume|run_dir|overrides|sweep)(\.|$)")
_MOST_JOBS = 10_000
_TRUST = "trust="


def without_trust(arguments: Sequence[str]) -> list[str]:
    """Leave out ``trust=true``: a record cannot vouch for itself."""
    return [item for item in arguments if not item.lstrip("+").startswith(_TRUST)]


def texts_of(arguments: Any, source: Path) -> list[str]:
    """Return recorded arguments, which must be a list of texts.

    Raises:
        InputError: they are something else.
    """
    if not isinstance(arguments, list | tuple) or not all(isinstance(item, str) for item in arguments):
        raise InputError(f"{source} is damaged: its arguments are no list of texts; copy it again from its source.")
    return list(arguments)


def check_arguments(arguments: Sequence[str], source: Path, *, option: str = "trust=true") -> None:
    """Refuse arguments that could run code or write elsewhere: they may say what is trained, and how much at a time.

    Args:
        arguments: as recorded.
        source: the file, named in the message.
        option: what to type to vouch for the file.

    Raises:
        InputError: names the argument.
    """
    jobs = 1
    for argument in without_trust(arguments):
        found, values = _refused(argument)
        jobs *= max(1, values)
        if found is None and jobs > _MOST_JOBS:
            found = f"more than {_MOST_JOBS:,} jobs"
        if found is not None:
            raise InputError(f"{source} has {found}, which may run code or write anywhere: {option} if it is your own.")
        _check_values(argument, source, option)


def check_jobs(
    folder: Path, presents: Mapping[int, DictConfig], *, trusted: bool = False, option: str = "trust=true"
) -> None:
    """Refuse jobs whose folders hold a configuration that could run code or write outside of its run's folder.

    Args:
        folder: of the sweep.
        presents: what is composed now, by the numbers of the jobs that may be resumed.
        trusted: the user vouches for the folder.
        option: what to type to vouch for it.

    Raises:
        InputError: names what was found, and where.
    """
    for number, present in presents.items():
        source = folder / str(number) / COMPOSITION
        if not trusted and source.exists():
            check_configuration(load_configuration(source), source, present=present, option=option)


def _refused(argument: str) -> tuple[str | None, int]:
    """Return the argument, shortened, if no sweep of a stranger may have it; and its number of values."""
    shown = " ".join(argument.split())
    shown = shown if len(shown) <= 100 else f"{shown[:97]}..."
    if argument.startswith("-"):
        return shown, 1
    try:
        override = OverridesParser.create().parse_overrides([argument])[0]
    except (HydraException, RecursionError):
        return shown, 1
    key = override.get_key_element().lstrip("+~")
    about_hydra = re.match(r"hydra\b", key) or "hydra" in re.split(r"[.@/]", override.package or "")
    if about_hydra:
        return (None if _is_harmless(override, key) else shown), 1
    is_of_sweeps = key in _OF_SWEEPS
    if (_FILLED_IN.match(key) and not is_of_sweeps) or key.startswith("/"):
        return shown, 1
    group = key.partition("@")[0]
    is_group = (conf_folder() / group).is_dir()
    if ".." in key or ("/" in group and not is_group) or (is_group and not all(map(_is_choice, _texts(override)))):
        return shown, 1
    return None, _count(override)


def _is_harmless(override: Override, key: str) -> bool:
    """Tell whether an option of Hydra chooses a launcher of this installation, or a number or a name for it."""
    values = _texts(override)
    if key == "hydra/launcher":
        return all(value in _LAUNCHERS for value in values)
    if key == "hydra.verbose":
        return all(value in ("True", "False") for value in values)
    head, _, name = key.rpartition(".")
    return head == "hydra.launcher" and name in _OF_LAUNCHERS and all(map(_is_word, values))


def _is_word(value: str) -> bool:
    return is_plain(value) or re.fullmatch(r"-?\d+(\.\d+)?|None", value) is not None


def _is_choice(value: str) -> bool:
    """Tell whether ``value`` could name a file of a group in conf/, not one elsewhere."""
    return all(map(is_plain, value.split("/"))) or value in ("None", "")


def _elements(override: Override) -> list[Any]:
    """Return the values of an override, without those that a range or an interval consists of."""
    value = override._value
    if isinstance(value, RangeSweep | IntervalSweep | Glob):
        return []
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _texts(override: Override) -> list[str]:
    """Return the values as text, those of lists one by one."""
    plain = [Override._convert_value(value) for value in _elements(override)]
    return [str(item) for value in plain for item in (value if isinstance(value, list) else [value])]


def _count(override: Override) -> int:
    value = override._value
    if isinstance(value, RangeSweep):
        start, stop, step = value.start, value.stop, value.step
        if start is None or stop is None or not step or not all(map(math.isfinite, (start, stop, step))):
            return _MOST_JOBS + 1
        return math.ceil(max(0.0, (stop - start) / step))
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def _check_values(argument: str, source: Path, option: str) -> None:
    """Check each value of an override as if it were a configuration of its own."""
    override = OverridesParser.create().parse_overrides([argument])[0]
    key = override.get_key_element().lstrip("+~")
    if re.match(r"hydra\b", key) or (conf_folder() / key.partition("@")[0]).is_dir():
        return
    for element in _elements(override):
        node: Any = Override._convert_value(element)
        if isinstance(element, QuotedString):
            node = element.text
        for name in reversed(key.split(".")):
            node = {name: node}
        try:
            config = DictConfig(node)
        except OmegaConfBaseException as error:
            raise InputError(
                f"{source} has {argument[:100]}, which is no option: {option} if it is your own."
            ) from error
        # Places are relative to a job's folder, which is below that of the sweep.
        check_configuration(config, source, option=option)
