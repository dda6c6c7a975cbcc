"""A trained generator in one file: weights and all that is needed to rebuild and use them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from medsynth.contracts import InputError
from medsynth.files import replacing

FORMAT = 1
_ROOM = "medsynth.generator."


def save_generator(path: Path, generator: nn.Module, *, config: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write weights and description to ``path`` (.safetensors); complete or not at all.

    Args:
        path: the file; an older one is replaced.
        generator: the network, e.g. the moving average of the trained one.
        config: its class as ``_target_`` and the class's arguments: what rebuilds it.
        card: what its user must know: data, intensity, class names, images seen, metrics.
    """
    metadata = {"medsynth": json.dumps({"format": FORMAT, "config": dict(config), "card": dict(card)})}
    weights = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata=metadata)


def load_generator(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The generator of ``path``, in evaluation mode on the CPU, and its card.

    Raises:
        InputError: no such file, no generator of medsynth, of another format, or its weights do not fit.
    """
    if not path.is_file():
        raise InputError(f"There is no generator at {path}: give the folder of a run that was validated at least once.")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get("medsynth", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged or is no safetensors file ({error}).") from error
    if description is None:
        raise InputError(f"{path} holds weights, but was not written by medsynth: a generator.safetensors is needed.")
    if description["format"] != FORMAT:
        raise InputError(f"{path} has format {description['format']}; this version of medsynth reads format {FORMAT}.")
    generator = _build(path, description["config"])
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"The weights of {path} do not fit the architecture it names: {error}") from error
    return generator.eval(), description["card"]


def _build(path: Path, config: dict[str, Any]) -> nn.Module:
    target = config.pop("_target_")
    # A weights file may come from anyone: it may choose among this room's classes and nothing else.
    if not target.startswith(_ROOM):
        raise InputError(f"{path} names {target}, which is not one of medsynth's generators.")
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**config)
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"{path} names {target}, which this version of medsynth cannot build ({error}).") from error
