"""Removal of the paths of a user's data from what may leave the machine: a folder may be named after a patient.

A run's own folder keeps them in config.yaml and composition.yaml, which resume= and evaluate need, and in train.log.
Checkpoints, loggers, generators and reports get configurations and texts without them, unless ``data.show_paths=true``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HIDDEN = "(not shown)"
# Options of data sets that hold paths, or names below data.root.
_PATHS = (
    *("root", "target_root", "cache_dir", "table", "images", "labels"),
    *("source", "target", "mask", "masks", "path", "folder", "file"),
)
_NO_PATHS = ("_target_", "patient_pattern", "unit", "description")
_TEXTS = ("overrides", "sweep.name", "logger.")  # options as typed
_WORD = re.compile(r"[a-z]*(\.[a-z]+)?")
_SHORTEST = 3  # characters of a name that is looked for in texts


def shows_paths(config: Mapping[str, Any]) -> bool:
    """Tell whether the user allows the names of files and folders to be shown, by ``data.show_paths=true``."""
    data = config.get("data")
    return isinstance(data, Mapping) and data.get("show_paths") is True


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration without the paths of its data, and with those of the run relative to its folder.

    With ``data.show_paths=true`` the data's paths stay.
    """
    hidden = {} if shows_paths(config) else dict(_private(config.get("data"), "data", _root(config)))
    folder = config.get("run_dir")
    paths = {value for value in hidden.values() if os.sep in value}
    inside = folder if isinstance(folder, str) and os.path.isabs(folder) else None

    def public(node: Any, key: str = "") -> Any:
        if isinstance(node, Mapping):
            return {name: public(value, f"{key}.{name}" if key else str(name)) for name, value in node.items()}
        if isinstance(node, list | tuple):
            return [public(item, f"{key}.{number}") for number, item in enumerate(node)]
        if not isinstance(node, str):
            return node
        if key in hidden:
            return HIDDEN
        text = HIDDEN if node in paths else text_without(node, hidden) if key.startswith(_TEXTS) else node
        return f".{text[len(inside) :]}" if inside and text.startswith(inside) else text

    return public(config)


def private_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Return those of ``options``, by dotted keys, that hold paths of the data; empty where these may be shown."""
    if str(options.get("data.show_paths")).lower() == "true":
        return {}
    root = str(options.get("data.root") or ".")
    found = {key: value for key, value in options.items() if key.startswith("data.") and isinstance(value, str)}
    return {key: value for key, value in found.items() if _is_private(key.rpartition(".")[2], value, root)}


def is_path_option(key: str) -> bool:
    """Tell whether an option by its name holds a path of the data: ``data.root``."""
    block, _, rest = key.lstrip("+~").partition(".")
    return block == "data" and rest.rpartition(".")[2] in _PATHS


def text_without(text: str, hidden: Mapping[str, str]) -> str:
    """Return ``text`` without the values of ``hidden``, as options (``data.root=...``), paths or names of folders."""
    for key, value in hidden.items():
        path = Path(value).expanduser()
        for name in sorted({value, str(path.absolute()), path.absolute().name}, key=len, reverse=True):
            word = re.escape(name)
            if _WORD.fullmatch(name):  # "images" may be a folder's name, and is a word of many sentences
                text = re.sub(rf"(?<=[/\\]){word}(?![\w-])|(?<=[a-zA-Z] ){word}(?=:)", HIDDEN, text)
            elif len(name) >= _SHORTEST:
                text = re.sub(rf"(?<![\w-]){word}(?![\w-])", HIDDEN, text)
        if f"{key}={HIDDEN}" not in text:
            text = re.sub(rf"\b{re.escape(key)}=.+?(?=,[\w.+~@/]+=|[\s;:)\"]|$)", f"{key}={HIDDEN}", text)
    return text


def overrides_without_paths(overrides: Sequence[str]) -> list[str]:
    """Return overrides with the values of options that hold paths of the data hidden; see ``is_path_option``."""
    if any(override.lstrip("+") == "data.show_paths=true" for override in overrides):
        return list(overrides)
    return [
        f"{key}={HIDDEN}" if equals and is_path_option(key) else override
        for override in overrides
        for key, equals, _ in [override.partition("=")]
    ]


def _root(config: Mapping[str, Any]) -> str:
    data = config.get("data")
    root = data.get("root") if isinstance(data, Mapping) else None
    return root if isinstance(root, str) else "."


def _private(node: Any, key: str, root: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values of the strings at and below ``node`` that are paths or name what exists."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    elif isinstance(node, str) and node and _is_private(key.rpartition(".")[2], node, root):
        yield key, node
    for name, value in items:
        yield from _private(value, f"{key}.{name}", root)


def _is_private(name: str, value: str, root: str) -> bool:
    if name in _NO_PATHS:
        return False
    if name in _PATHS or "/" in value or "\\" in value or value.startswith("~"):
        return True
    try:
        return os.path.exists(value) or os.path.exists(os.path.join(root, value))
    except ValueError:  # a null character
        return False
