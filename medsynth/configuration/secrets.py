"""Refusal of options that hold secrets, since options are written into a run's files and sent to its loggers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medsynth.errors import InputError

_WORDS = r"(api_?key|access_?key|private_?key|token|password|passwd|secret|credential)s?"
_OPTION = re.compile(rf"(^|_){_WORDS}(_|$)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w*(?:KEY|TOKEN|PASS|SECRET|CREDENTIAL|AUTH)\w*)", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"://[^/\s:@]*:[^/\s@$]+@")


def check_secrets(config: DictConfig) -> None:
    """Refuse options that hold a secret; libraries read secrets from the environment, and medsynth needs none.

    Secrets are recognized by the option's name (token, password, api_key ...), by the name of an environment variable
    in ``${oc.env:...}``, and as the password in an address. Nothing of ``config`` is resolved.

    Raises:
        InputError: an option holds a secret; the message has the option's name and not its value.
    """
    for path, value in _values(OmegaConf.to_container(config, resolve=False)):
        variable = _VARIABLE.search(value) if isinstance(value, str) else None
        if variable:
            raise InputError(
                f"{path} takes the environment variable {variable[1]}, whose value would be written into the run's "
                "files: libraries read secrets from the environment by themselves; leave the option out."
            )
        in_address = isinstance(value, str) and _IN_ADDRESS.search(value)
        if value not in (None, "") and (in_address or _OPTION.search(path.rpartition(".")[2])):
            raise InputError(
                f"{path} holds a secret, which would be written into the run's files: set it in the environment "
                "(WANDB_API_KEY, MLFLOW_TRACKING_TOKEN ...), where libraries read it by themselves."
            )


def _values(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values; for entries of ``overrides``, the options that these set."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _values(value, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list):
        for value in node:
            typed = isinstance(value, str) and path == "overrides"
            key, _, value = value.partition("=") if typed else (path, "", value)
            yield from _values(value, key.lstrip("+"))
    else:
        yield path, node
