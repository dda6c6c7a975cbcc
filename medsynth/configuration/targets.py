"""Import of the classes that configurations name by ``_target_``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from medsynth.errors import InputError


def target_class(config: Mapping[str, Any]) -> Any:
    """Import the class or function that ``config`` names by ``_target_``; nothing is built.

    Raises:
        InputError: there is no ``_target_``, or it cannot be imported.
    """
    if not isinstance(config, Mapping):  # of a damaged file
        raise InputError(f"{config} stands where a component with its _target_ has to be: choose one as in loss=hinge.")
    target = str(config.get("_target_"))
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"_target_: {target} cannot be imported ({error}): give module.Class, with the module's folder in "
            "PYTHONPATH."
        ) from error


def target_of(node: object) -> str:
    """Return the ``_target_`` of a component's configuration; "" where it is none."""
    return str(node.get("_target_")) if isinstance(node, Mapping | DictConfig) else ""
