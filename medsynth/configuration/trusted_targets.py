"""Check of the classes that a run's configuration names: it may come from a stranger, and Hydra calls what it names."""

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

# Classes of these packages may be named, besides all that conf/ names. Not those of cli and sweep, which start
# processes, nor those of all of torch: torch.hub and others run code that they are given.
_PACKAGES = (
    "generator",
    "encoder",
    "discriminator",
    "backbone",
    "minibatch",
    "optimizer",
    "loss",
    "penalty",
    "generator_penalty",
    "reconstruction",
    "augment",
    "schedule",
    "data",
    "metrics",
    "lightning",
    "logger",
)
_OPEN = (
    *(f"medsynth.{package}." for package in _PACKAGES),
    "pytorch_lightning.callbacks.",
    "torch.nn.",
    "torch.optim.",
)
_CLOSED = ("medsynth.data.writer.",)  # of these packages: it writes images to any folder
_RESOLVERS = ("hydra", "oc.select")  # those that conf/ uses; oc.env could read a secret


def check_targets(config: DictConfig, source: Path, *, trusted: bool = False, option: str = "trust=true") -> None:
    """Refuse a configuration from the file ``source`` that could run more than the components of medsynth.

    A configuration that the user composes is not checked, since the user types it. Nothing of ``config`` is resolved.

    Args:
        config: as it was loaded, before anything typed is merged into it.
        source: named in the message.
        trusted: the user allows the file to name any class, such as one of their own package.
        option: what to type to allow that.

    Raises:
        InputError: ``config`` names a class or function, or an interpolation, that is not allowed there.
    """
    if trusted:
        return
    for key, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        what = value if key == "_target_" and not _is_allowed(value) else forbidden(value)
        if what is not None:
            raise InputError(
                f"{source} names {what}, which is no component of medsynth and could run any code: {option} if "
                "the file is your own."
            )


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield keys and values; for a ``_target_`` the whole value, of any type."""
    if isinstance(node, dict) and key != "_target_":
        for name, value in node.items():
            yield from _leaves(value, str(name))
    elif isinstance(node, list) and key != "_target_":
        for value in node:
            yield from _leaves(value)
    else:
        yield key, node


def forbidden(value: Any) -> str | None:
    """Return ``value`` if it is text with an interpolation that reads the environment or could be a component."""
    if not isinstance(value, str) or "${" not in value:
        return None
    resolvers = re.findall(r"\$\{\s*([\w.]+)\s*:", value)
    plain = "{" not in value.replace("${", "") and len(re.findall(r"\$\{\s*[\w.\[\]]+", value)) == value.count("${")
    return None if plain and all(resolver in _RESOLVERS for resolver in resolvers) else value


def _is_allowed(target: Any) -> bool:
    if not isinstance(target, str):
        return False
    is_open = target.startswith(_OPEN) and not target.startswith(_CLOSED)
    return target in _named_by_conf() or (is_open and _is_class_of_its_module(target))


@functools.cache
def _named_by_conf() -> frozenset[str]:
    """Return every ``_target_`` in conf/ of this installation."""
    files = conf_folder().rglob("*.yaml")
    return frozenset(
        name for file in files for name in re.findall(r"_target_: *([\w.]+)", file.read_text(encoding="utf-8"))
    )


def _is_class_of_its_module(target: str) -> bool:
    """Tell whether ``target`` is a class of an open package, not a name that a module there imports (``...mlp.nn``)."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return isinstance(found, type) and found.__module__.startswith(tuple(prefix.rstrip(".") for prefix in _OPEN))
