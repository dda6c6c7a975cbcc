"""The choices of a configuration group, in conf/ and in the folders that the user added by --config-dir."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from medsynth.configuration.compose import compose, conf_folder, own_folders


def choices(group: str) -> list[str]:
    """Return the names that ``group=`` takes, sorted; files in folders below the group's are no choices."""
    folders = [conf_folder(), *map(Path, own_folders())]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def choices_with(group: str, *options: str) -> list[str]:
    """Return the choices of ``group`` that have one of ``options``: ``backbone`` of discriminators, for example.

    Each of them is composed, so that options which a file takes over from another one count. A file of the user's that
    cannot be composed is left out.
    """
    composed = {name: _composed(group, name) for name in choices(group)}
    return [name for name, config in composed.items() if any(_has(config, option) for option in options)]


def _has(node: Any, option: str) -> bool:
    for name in option.split("."):
        if not isinstance(node, DictConfig) or name not in node:
            return False
        node = node[name]
    return True


def _composed(group: str, name: str) -> DictConfig:
    try:
        return compose("train", [f"{group}={name}"])[group]
    except (HydraException, OmegaConfBaseException, KeyError):
        return DictConfig({})
