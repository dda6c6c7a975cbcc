"""Check of the types of options: a word where a number is expected is refused before anything is built."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from medsynth.configuration.compose import compose as compose_command
from medsynth.configuration.compose import conf_folder, is_group
from medsynth.configuration.null_components import remove_null_components
from medsynth.errors import InputError

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", ListConfig: "a list", DictConfig: "a group"}


def with_option_types(
    config: DictConfig,
    command: str,
    overrides: Sequence[str],
    *,
    compose: Callable[[Sequence[str]], DictConfig] | None = None,
) -> DictConfig:
    """Return ``config`` with typed values in the types of their options' defaults: 2e5 becomes 200000, 0 becomes 0.0.

    Components that are set to null are removed.

    Args:
        config: composed with ``overrides``.
        command: whose configuration it is.
        overrides: as typed.
        compose: composes the defaults of the chosen files; None: they are composed anew.

    Raises:
        InputError: a value has another type than its option's default, such as a word where a number is expected.
    """
    values = [item for item in overrides if not item.startswith(("+", "~")) and not is_group(item)]
    keys = [item.partition("=")[0] for item in values]
    if not keys:
        return config
    config = copy.deepcopy(config)
    choices = [item for item in overrides if is_group(item) or item.startswith("hydra.searchpath=")]
    defaults = compose_command(command, choices) if compose is None else compose(choices)
    for key in keys:
        default, value = OmegaConf.select(defaults, key), OmegaConf.select(config, key)
        if default is None or value is None:
            continue
        if type(default) is int and isinstance(value, float) and value.is_integer():
            OmegaConf.update(config, key, int(value))
        elif _of_numbers(default, float) and _of_numbers(value, int | float):  # betas=[0,0.9]
            OmegaConf.update(config, key, [float(number) for number in cast(ListConfig, value)])
        elif not _fits(value, default):
            raise InputError(_wrong_type(key, value, default))
    remove_null_components(config)
    return config


def _wrong_type(key: str, value: Any, default: Any) -> str:
    if not isinstance(default, DictConfig):
        return f"{key}={value} is not {_KINDS.get(type(default), 'a word')}; its default is {default}."
    groups = sorted(path.parent.name for path in conf_folder().glob(f"*/{value}.yaml"))
    choice = f"; for conf/{groups[0]}/{value}.yaml type {groups[0]}@{key}={value}" if groups else ""
    return f"{key}={value}: {key} has options of its own, such as {key}.{_first_option(default)}{choice}."


def _first_option(options: DictConfig) -> str:
    """Return the name of the first option, those that name a class left out."""
    return next((str(name) for name in options if not str(name).startswith("_")), "_target_")


def _of_numbers(value: Any, kind: Any) -> bool:
    return isinstance(value, ListConfig) and all(isinstance(item, kind) for item in value)


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int if isinstance(default, int) else int | float) and not isinstance(value, bool)
    if isinstance(default, ListConfig | DictConfig):
        return isinstance(value, type(default))
    return True
