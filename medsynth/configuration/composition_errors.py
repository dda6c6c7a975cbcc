"""Explanation of Hydra's errors in one sentence that names the option and the valid choices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from medsynth.configuration.choices import choices
from medsynth.configuration.compose import compose, is_group
from medsynth.errors import causes


def composition_error(error: BaseException, command: str, overrides: Sequence[str]) -> str | None:
    """Explain an error of Hydra or OmegaConf; None: it is another error.

    Args:
        error: as caught.
        command: whose configuration was composed.
        overrides: as typed; the groups among them decide which options exist.
    """
    if isinstance(error, InstantiationException) and (sentence := _unexpected_option(error)):
        return sentence
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as key=value: {str(error).splitlines()[0]}."
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    for cause in causes(error):
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
            return _unknown_key(cause.full_key, command, overrides)
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, name = cause.missing_cfg_file.rpartition("/")
            names = cause.options or choices(group)  # Hydra does not name them for one of a list
            if names:
                return f"There is no {group}={name}: choose {' or '.join(names)}."
    return _without_notes(str(error))


def _without_notes(message: str) -> str:
    """Put a message of Hydra or OmegaConf into one line, without the lines that are for developers."""
    notes = ("full_key", "object_type", "Set the environment", "Config search path", "provider=")
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(notes)).replace("\t", " ").rstrip(".") + "."


def _unexpected_option(error: InstantiationException) -> str | None:
    """Name an option that a class does not have; None: the class raised another error.

    Python has no class for it and Hydra no attribute, so that their messages are read.
    """
    for cause in causes(error):
        unexpected = re.search(r"got an unexpected keyword argument '(\w+)'", str(cause))
        if isinstance(cause, TypeError) and unexpected:
            key = re.search(r"full_key: (\S+)", str(error))
            return f"{key[1] if key else 'A component'} has no option {unexpected[1]}; `--cfg job` prints its options."
    return None


def _unknown_key(key: str, command: str, overrides: Sequence[str]) -> str:
    """Name the keys that exist where ``key`` was looked for, and the one that was probably meant."""
    parent, _, name = key.rpartition(".")
    config = compose(command, [override for override in overrides if is_group(override)])
    node = OmegaConf.select(config, parent) if parent else config
    known = sorted(str(k) for k in node if not str(k).startswith("_")) if isinstance(node, DictConfig) else []
    elsewhere = [path for path in _paths(config) if path.rpartition(".")[2] == name]
    near = elsewhere or difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {' or '.join(near[:3])}?" if near else "."
    place = f"{parent} has" if parent else "there are"
    if not known:
        return f"There is no option {key}: {parent} holds one value."
    return f"There is no option {key}: {place} {', '.join(known)}{hint}"


def _paths(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield all keys that can be set: ``data``, ``data.batch_size``, ..."""
    for key in config:
        yield prefix + str(key)
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none():
            yield from _paths(node, f"{prefix}{key}.")
