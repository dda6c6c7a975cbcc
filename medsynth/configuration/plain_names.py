"""Check of the names in a configuration that become parts of file names, of modules' attributes and of columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig

from medsynth.errors import InputError

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_NAMES = ("name", "model_name")  # options of components that name something
_FREE_TEXT = ("logger", "sweep", "hydra", "overrides")  # entries whose names are titles for people


def is_plain(name: object) -> bool:
    """Tell whether ``name`` consists of letters, digits, _, - and ., at most 128, without a leading dot."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None


def check_names(config: DictConfig) -> None:
    """Refuse components whose names are no plain words.

    Names of components are the keys under which they stand, as ``r1`` in ``penalty.r1``, and their options ``name`` and
    ``model_name``. They are written into file names, columns of metrics.csv and names of attributes.

    Raises:
        InputError: a name has a separator of folders, a line end, or anything else that is not plain.
    """
    for option, name in _names(config):
        if not is_plain(name):
            raise InputError(
                f"{option} {str(name)[:40]!r} must be a plain word, since it becomes part of names of files: give "
                "letters, digits, _, - and ., not beginning with a dot."
            )


def _names(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each name and the option that gives it; of interpolations what they result in."""
    if node is None or node._is_interpolation() or node._is_none() or node._is_missing():
        return
    if isinstance(node, ListConfig):
        for position in range(len(node)):
            yield from _names(node._get_node(position), f"{path}[{position}]")
    if not isinstance(node, DictConfig):
        return
    for key in node:
        child, below = node._get_node(key), f"{path}.{key}" if path else str(key)
        if below in _FREE_TEXT:
            continue
        if _is_component(child):
            yield f"{path}: the name" if path else "The name", str(key)
        elif _is_component(node) and key in _NAMES and node[key] is not None:
            yield f"{below}:", node[key]
        yield from _names(child, below)


def _is_component(node: Any) -> bool:
    return isinstance(node, DictConfig) and isinstance(node._content, dict) and "_target_" in node._content
