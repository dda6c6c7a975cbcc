"""Which classes a run's folder may have built: it may come from a stranger, and Hydra builds whatever it names."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.compose import conf_folder
from medsynth.errors import InputError

# Classes of these rooms and packages may be named, beside all that conf/ names. Not of cli and sweep, which start
# processes, nor of all of torch: torch.hub and others run what they are given.
_ROOMS = (
    "generator",
    "discriminator",
    "backbone",
    "loss",
    "penalty",
    "augment",
    "schedule",
    "data",
    "metrics",
    "lightning",
    "logger",
)
_OPEN = (*(f"medsynth.{room}." for room in _ROOMS), "pytorch_lightning.callbacks.", "torch.nn.", "torch.optim.")
_RESOLVERS = ("hydra", "oc.select")  # those that conf/ uses below the top; oc.env would read a secret


def check_targets(config: DictConfig, source: Path, *, trusted: bool = False) -> None:
    """Refuse a configuration from the file ``source`` that could run more than the parts of medsynth.

    What a user composes is not checked, since the user types it. Nothing of ``config`` is resolved by asking.

    Args:
        config: as it was loaded, before anything typed is merged into it.
        source: for the message.
        trusted: the user says that the file may name any class, such as one of their own package.

    Raises:
        InputError: ``config`` names a class or function, or an interpolation, that is not allowed there.
    """
    if trusted:
        return
    for key, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        what = value if key == "_target_" and not _is_allowed(value) else _forbidden(value)
        if what is not None:
            raise InputError(
                f"{source} names {what}, which is no part of medsynth and could run anything: trust=true if the file "
                "is your own."
            )


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values; of a ``_target_`` the whole value, whatever it is."""
    if isinstance(node, dict) and key != "_target_":
        for name, value in node.items():
            yield from _leaves(value, str(name))
    elif isinstance(node, list) and key != "_target_":
        for value in node:
            yield from _leaves(value)
    else:
        yield key, node


def _forbidden(value: Any) -> str | None:
    """An interpolation that reads the environment, or whose result could be a part of its own; None: there is none."""
    if not isinstance(value, str) or "${" not in value:
        return None
    resolvers = re.findall(r"\$\{\s*([\w.]+)\s*:", value)
    plain = "{" not in value.replace("${", "") and len(re.findall(r"\$\{\s*[\w.\[\]]+", value)) == value.count("${")
    return None if plain and all(resolver in _RESOLVERS for resolver in resolvers) else value


def _is_allowed(target: Any) -> bool:
    if not isinstance(target, str):
        return False
    return target in _named_by_conf() or (target.startswith(_OPEN) and _is_class_of_its_module(target))


@functools.cache
def _named_by_conf() -> frozenset[str]:
    """All ``_target_`` of this installation's conf/."""
    files = conf_folder().rglob("*.yaml")
    return frozenset(name for file in files for name in re.findall(r"_target_: *([\w.]+)", file.read_text()))


def _is_class_of_its_module(target: str) -> bool:
    """Whether ``target`` is a class of an open package, and not what a module there has imported (``...facts.os``)."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return isinstance(found, type) and found.__module__.startswith(tuple(prefix.rstrip(".") for prefix in _OPEN))
