"""Hydra's errors of composition in one sentence with the valid choices."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.compose import compose, is_group
from medsynth.errors import causes


def composition_error(error: BaseException, command: str, conf: Path) -> str:
    """Hydra's message on one line, with the valid choices where a key is not known."""
    messages = "\n".join(str(cause) for cause in causes(error))
    key = re.search(r"full_key: (\S+)", messages)
    if key and "is not in struct" in messages:
        return _unknown_key(key[1], command, conf)
    part = re.search(r"Could not load '(\w+)/([^']+)'", messages)
    if part:  # one of a list, where Hydra does not name the choices
        names = ", ".join(sorted(path.stem for path in (conf / part[1]).glob("*.yaml")))
        return f"{part[1]}=[...] names {part[2]}, which is not there: choose of {names}."
    noise = ("full_key", "object_type", "Set the environment", "Config search path", "provider=")
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(noise)).replace("\t", " ").rstrip(".") + "."


def _unknown_key(key: str, command: str, conf: Path) -> str:
    """Name the keys that stand where ``key`` was looked for, and the one that was probably meant."""
    parent, _, name = key.rpartition(".")
    config = compose(command, conf, [argument for argument in sys.argv[1:] if is_group(conf, argument)])
    node = OmegaConf.select(config, parent) if parent else config
    choices = sorted(str(k) for k in node if not str(k).startswith("_")) if isinstance(node, DictConfig) else []
    elsewhere = [path for path in _paths(config) if path.rpartition(".")[2] == name]
    near = elsewhere or difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {' or '.join(near[:3])}?" if near else "."
    place = f"{parent} has" if parent else "there are"
    return f"There is no option {key}: {place} {', '.join(choices)}{hint}"


def _paths(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """``data``, ``data.batch_size``, ...: all keys that can be set."""
    for key in config:
        yield prefix + str(key)
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none():
            yield from _paths(node, f"{prefix}{key}.")
