"""Check of the places that a run's configuration names: a stranger's run writes below its own folder alone."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.compose import conf_folder, own_folders
from medsynth.configuration.trusted_targets import check_targets, forbidden
from medsynth.errors import InputError
from medsynth.files import CACHE_SALT
from medsynth.untrusted_files import UnreadableFile, load_yaml

# Options that name what is written, a file, a folder, a database or a server, by their last word; _args_ have no name.
_WRITTEN = re.compile(
    r"_args_|(?:.*_)?(?:path|folder|store|uri|url|dir|dirpath|directory|file|filename|out|output|destination)s?"
)
_READ = ("root", "weights")  # options that name what is read
_READERS = "medsynth.data."  # all of whose options but the cache are read
_BOUNDS = ("medsynth.generator.", "output")  # classes whose option of this name is how values are bounded, no place
_CACHE = "cache_dir"
_SET_ANEW = ("run_dir", "overrides", "sweep", "resume", "hydra")  # by the program, whatever a stored run has there
_RUN_FOLDERS = ("${run_dir}", "${hydra:runtime.output_dir}")


def check_configuration(
    config: DictConfig,
    source: Path,
    *,
    trusted: bool = False,
    present: DictConfig | None = None,
    built: Collection[str] | None = None,
    option: str = "trust=true",
) -> None:
    """Refuse the configuration of a run that could run code or write outside of the run's folder.

    Args:
        config: as stored, or with what was typed merged into it; nothing of it is resolved.
        source: its file, in the run's folder; named in the message.
        trusted: the user vouches for the file.
        present: what the user has composed now; values that it has too are the user's own.
        built: entries of ``config`` of which objects are built; None: all.
        option: what to type to vouch for the file.

    Raises:
        InputError: names what was found, where, and what to type where the file is the user's own.
    """
    if trusted:
        return
    check_targets(config, source, option=option)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    own = {} if present is None else dict(_texts(OmegaConf.to_container(present, resolve=False)))
    chosen = {name: plain[name] for name in plain if name not in _SET_ANEW and (built is None or name in built)}
    found = next(_elsewhere(chosen, source.parent.resolve(), own), None)
    if found is not None:
        raise InputError(
            f"{source} has {found}, a place outside of the run's folder, where the run of a stranger may not write: "
            f"{option} if the file is your own."
        )
    _without_downloads(config, present)


def check_links(folder: Path, *, trusted: bool = False, option: str = "trust=true") -> None:
    """Refuse a folder with a link to a place outside of it, through which a program could write or read there.

    Raises:
        InputError: names the link.
    """
    if trusted or not folder.is_dir():
        return
    inside = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path) and not _is_harmless(Path(path), inside):
                raise InputError(
                    f"{path} is a link to {os.path.realpath(path)}, outside of {folder}: {option} if the folder is "
                    "your own."
                )


def _is_harmless(link: Path, folder: str) -> bool:
    """Tell whether a link leads into ``folder``, or is W&B's to a log in its cache, which nothing opens again."""
    return Path(os.path.realpath(link)).is_relative_to(folder) or link.match("wandb/*/logs/*.log")


def _elsewhere(plain: dict[str, Any], folder: Path, own: dict[tuple[str, bool], str]) -> Iterator[str]:
    """Yield each option of ``plain`` that could be written outside of ``folder`` and is not the user's own setting."""
    for (path, reads), value in _texts(plain):
        key = path.rpartition(".")[2]
        if (reads and key != _CACHE) or own.get((path, reads)) == value or _is_below(value, folder, key):
            continue
        if (key, value) in _named_by_conf(tuple(own_folders())):
            continue
        if key == _CACHE and is_own_cache(Path(value).expanduser()):
            continue
        yield f"{path}={value}"


def _texts(node: Any, path: str = "", reads: bool | None = None) -> Iterator[tuple[tuple[str, bool], str]]:
    """Yield each text with its dotted option and whether the option names something that is only read."""
    if isinstance(node, dict):
        target = node.get("_target_")
        if isinstance(target, str):
            reads = target.startswith(_READERS)
        elif reads is None and path:
            reads = path.split(".")[0] == "data"
        bounds = isinstance(target, str) and target.startswith(_BOUNDS[0])
        for name, value in node.items():
            inner = True if bounds and name == _BOUNDS[1] else reads
            yield from _texts(value, f"{path}.{name}" if path else str(name), inner)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, path, reads)
    elif isinstance(node, str):
        key = path.rpartition(".")[2]
        yield (path, bool(reads) or key in _READ or key == "_target_"), node


def _is_below(value: str, folder: Path, key: str) -> bool:
    """Tell whether ``value`` is a place below the run's folder, or for options that are not written no place at all."""
    parts = re.split(r"[/\\]", value)
    prefix = next((prefix for prefix in _RUN_FOLDERS if value.startswith(prefix)), None)
    if prefix is not None:
        rest = value[len(prefix) :]
        return rest[:1] in ("", "/") and "${" not in rest and ".." not in parts
    if os.path.isabs(value) or value.startswith(("~", "\\")) or ".." in parts or re.match(r"\w+:/", value):
        return os.path.isabs(value) and Path(os.path.realpath(value)).is_relative_to(folder)
    if _WRITTEN.fullmatch(key):
        return key == "filename" and len(parts) == 1 and "${" not in value
    return True


def is_own_cache(folder: Path) -> bool:
    """Tell whether ``folder`` is a cache of prepared images that this user has already."""
    try:
        return folder.is_absolute() and (folder / CACHE_SALT).stat().st_uid == os.getuid()
    except (OSError, AttributeError):
        return False


@functools.cache
def _named_by_conf(folders: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Return the last word of each option in conf/, and in the user's own folders of choices, with its value."""
    named: set[tuple[str, str]] = set()
    for file in (file for folder in (conf_folder(), *map(Path, folders)) for file in folder.rglob("*.yaml")):
        content: Any = None
        with contextlib.suppress(OSError, UnreadableFile):
            content = load_yaml(file)
        if isinstance(content, dict):
            content.pop("hydra", None)
            content.pop("defaults", None)
            named.update((path.rpartition(".")[2], value) for (path, _), value in _texts(content))
    return frozenset((key, value) for key, value in named if forbidden(value) is None)


def _without_downloads(node: DictConfig, present: DictConfig | None, path: str = "") -> None:
    """Turn off options ``download``, which would write into a folder of the stranger's choice."""
    for key in node:
        below, child = f"{path}{key}", node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_interpolation() and not child._is_none():
            _without_downloads(child, present, f"{below}.")
        elif key == "download" and not (present is not None and OmegaConf.select(present, below, default=False)):
            node[key] = False
