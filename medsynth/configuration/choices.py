"""The choices of a configuration group, in conf/ and in the folders that the user added by --config-dir."""

from __future__ import annotations

import re
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
    names = {option.rpartition(".")[2] for option in options}
    composed = {name: _composed(group, name) for name in choices(group) if _may_have(group, name, names)}
    return [name for name, config in composed.items() if any(_has(config, option) for option in options)]


def _may_have(group: str, name: str, options: set[str]) -> bool:
    """Tell whether one of ``options`` stands as a key in a choice's file or in those of conf/ that it names.

    It saves the composition of all choices, a quarter of a second each, where an option is misspelt.
    """
    folders = [conf_folder(), *map(Path, own_folders())]
    pending = [folder / group / f"{name}.yaml" for folder in folders]
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text = path.read_text(encoding="utf-8")
        if any(re.search(rf"^\s*{re.escape(option)}\s*:", text, re.MULTILINE) for option in options):
            return True
        named = re.findall(
            r"[\w/]+(?=@|,|\]|\s*$)",
            "\n".join(re.findall(r"^(?:defaults:.*|\s+- .*)$", text, re.MULTILINE)),
            re.MULTILINE,
        )
        for base in named:
            places = [folder / base.removeprefix("/") for folder in folders]
            pending += [
                place.with_suffix(".yaml") for place in [*places, *(folder / group / base for folder in folders)]
            ]
            pending += [path.parent / f"{base}.yaml"]
    return False


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
