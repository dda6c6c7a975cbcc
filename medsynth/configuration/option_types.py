"""The types of options: a word where a number is wanted is refused before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from medsynth.configuration.compose import compose, is_group
from medsynth.errors import InputError


def check_types(config: DictConfig, command: str, conf: Path, overrides: Sequence[str]) -> None:
    """Refuse a word where a number is wanted, by the type of the option's default; 2e5 passes for 200000, 0 for 0.0.

    Raises:
        InputError: names the option and its default.
    """
    values = [override for override in overrides if not override.startswith(("+", "~"))]
    keys = [override.partition("=")[0] for override in values]
    keys = [key for key in keys if not is_group(conf, key)]
    if not keys:
        return
    choices = [item for item in overrides if is_group(conf, item) or item.startswith("hydra.searchpath=")]
    defaults = compose(command, conf, choices)
    for key in keys:
        default, value = OmegaConf.select(defaults, key), OmegaConf.select(config, key)
        if default is None or value is None:
            continue
        if type(default) is int and isinstance(value, float) and value.is_integer():
            OmegaConf.update(config, key, int(value))
        elif _of_numbers(default, float) and _of_numbers(value, int | float):  # betas=[0,0.9]
            OmegaConf.update(config, key, [float(number) for number in value])
        elif not _fits(value, default):
            kind = _KINDS.get(type(default), "a word")
            raise InputError(f"{key}={value} is not {kind}; its default is {default}.")


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", ListConfig: "a list", DictConfig: "a group"}


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
