"""Errors that are the user's to mend, in one sentence that names the option and what would be right."""

from __future__ import annotations

import difflib
import errno
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medsynth.errors import InputError

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)


def explain(error: BaseException, command: str, conf: Path) -> str | None:
    """One sentence for an error that is the user's to mend; None for what is a fault of the program."""
    for cause in _chain(error):
        if isinstance(cause, InputError):
            return str(cause)
        if isinstance(cause, OSError) and (
            cause.errno in _CANNOT_WRITE or f"hydra.run.dir={cause.filename}" in sys.argv
        ):
            place = cause.filename or "the run's folder"
            return f"Cannot write {place}: {cause.strerror}; give another folder by hydra.run.dir=/path/to/folder."
        if type(cause).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate" in str(cause):
            return (
                "The memory of the device is not enough: raise task.accumulate, which computes a batch in parts, or "
                "lower data.batch_size, data.image_size or the players' widths."
            )
        if isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause):
            ended = str(cause).splitlines()[0].rstrip(". ")
            return f"{ended}: resume= goes on with the run; data.num_workers=0 does without such processes."
        unexpected = re.search(r"got an unexpected keyword argument '(\w+)'", str(cause))
        if isinstance(cause, TypeError) and unexpected and isinstance(error, InstantiationException):
            part = re.search(r"full_key: (\S+)", str(error))
            return f"{part[1] if part else 'A part'} takes no option {unexpected[1]}; `--cfg job` prints what it takes."
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as key=value: {str(error).splitlines()[0]}."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition_error(error, command, conf)
    return None


def own_folders() -> list[str]:
    """The user's folders of choices, as given by --config-dir and hydra.searchpath to the job that runs now."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [source.path for source in sources if source.schema == "file" and "command-line" in source.provider]


def sentence_of(error: BaseException) -> str:
    """One line for any error, also for a fault of the program."""
    if isinstance(error, InputError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_types(config: DictConfig, command: str, conf: Path, overrides: Sequence[str]) -> None:
    """Refuse a word where a number is wanted, by the type of the option's default; 2e5 passes for 200000, 0 for 0.0.

    Raises:
        InputError: names the option and its default.
    """
    values = [override for override in overrides if not override.startswith(("+", "~"))]
    keys = [override.partition("=")[0] for override in values]
    keys = [key for key in keys if not _is_group(conf, key)]
    if not keys:
        return
    choices = [item for item in overrides if _is_group(conf, item) or item.startswith("hydra.searchpath=")]
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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_group(conf: Path, override: str) -> bool:
    """Whether an override chooses a file of conf/ (``loss=hinge``) instead of setting a value."""
    return (conf / re.split("[@=]", override)[0]).is_dir()


def compose(command: str, conf: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a command. Hydra's state is put back: this may run inside of a job, whose folders count."""
    folders = [f"file://{folder}" for folder in own_folders()]
    if folders and not any(override.startswith("hydra.searchpath=") for override in overrides):
        overrides = [*overrides, f"hydra.searchpath=[{','.join(folders)}]"]
    state, hydra_config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf), version_base="1.3"):
            return hydra.compose(command, overrides=list(overrides))
    finally:
        GlobalHydra.instance().hydra = state
        HydraConfig.instance().cfg = hydra_config


def _composition_error(error: BaseException, command: str, conf: Path) -> str:
    """Hydra's message on one line, with the valid choices where a key is not known."""
    messages = "\n".join(str(cause) for cause in _chain(error))
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
    config = compose(command, conf, [argument for argument in sys.argv[1:] if _is_group(conf, argument)])
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
