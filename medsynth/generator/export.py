"""The file of a trained generator: its weights, and what is needed to rebuild and use it."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from medsynth.contracts import InputError
from medsynth.files import replacing
from medsynth.untrusted_files import parsed_json

_log = logging.getLogger(__name__)
FORMAT = 2  # 1 was the same without a checksum
_OTHER = ": read it with the version of medsynth that wrote it, or copy it again."
_PACKAGE = "medsynth.generator."


def save_generator(path: Path, generator: nn.Module, *, config: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write weights and description to ``path`` (.safetensors), with their SHA-256; complete or not at all.

    Args:
        path: the file; an older one is replaced.
        generator: the network, such as the EMA of the trained one.
        config: its class as ``_target_`` and the class's arguments: what rebuilds it.
        card: its description: data, intensity, class names, images seen, metrics.
    """
    description = json.dumps({"format": FORMAT, "config": dict(config), "card": dict(card)})
    weights = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    metadata = {"medsynth": description, "sha256": checksum(description, weights)}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata=metadata)


def read_generator(path: Path, *, trusted: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Read the generator of ``path``, in evaluation mode on the CPU, and its card.

    Args:
        path: the file.
        trusted: the user vouches for the file, which may then name any class.

    Raises:
        InputError: there is no such file, it is not of medsynth, is damaged, or has another format.
    """
    if not path.is_file():
        raise InputError(f"There is no generator at {path}: give the folder of a run that was validated at least once.")
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:  # it has no types
            metadata: dict[str, str] = file.metadata() or {}
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = _description(metadata)
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} is damaged or is no safetensors file ({error}): copy it again.") from error
    if description is None:
        raise InputError(f"{path} holds weights, but was not written by medsynth: a generator.safetensors is needed.")
    if description["format"] not in (1, FORMAT):
        raise InputError(
            f"{path} has format {description['format']}; this version of medsynth reads formats 1 and {FORMAT}: "
            "read it with the version that wrote it."
        )
    _verify(path, metadata, weights, description["format"])
    generator = _build(path, description["config"], trusted=trusted)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"The weights of {path} do not fit the architecture it names ({reason}){_OTHER}") from error
    return generator.eval(), description["card"]


def read_architecture(path: Path) -> dict[str, Any]:
    """Return the class, as ``_target_``, and its arguments, of a file that ``read_generator`` has read."""
    with cast(Any, safe_open)(path, framework="pt") as file:  # it has no types
        description = _description(file.metadata() or {})
    assert description is not None
    return description["config"]


def checksum(description: str, weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the description and of each tensor's name, type, shape and bytes, in hexadecimal."""
    digest = hashlib.sha256(description.encode())
    for name, value in sorted(weights.items()):
        digest.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _description(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Parse format, configuration and card; None: the file is not medsynth's.

    Raises:
        ValueError: they are damaged.
    """
    if "medsynth" not in metadata:
        return None
    description: Any = parsed_json(metadata["medsynth"])
    types = {"format": int, "config": dict, "card": dict}
    if not isinstance(description, dict):
        raise ValueError("its description is not one of a generator")
    entries = cast(dict[str, Any], description)
    if not all(isinstance(entries.get(key), types[key]) for key in types):
        raise ValueError("its description is not one of a generator")
    return entries


def _verify(path: Path, metadata: Mapping[str, str], weights: Mapping[str, Tensor], version: int) -> None:
    if "sha256" not in metadata and version == 1:
        _log.warning("%s is of an older medsynth and has no checksum: damage to it would not be noticed.", path)
    elif metadata.get("sha256") != checksum(metadata["medsynth"], weights):
        raise InputError(f"{path} is not what was written: its SHA-256 does not match; copy it again from its source.")


def _build(path: Path, config: Mapping[str, Any], *, trusted: bool) -> nn.Module:
    """Build the network that ``config`` names, a class of this package: the file may come from anyone."""
    target = str(config.get("_target_"))
    module, _, name = target.rpartition(".")
    try:
        # Not what the module has imported: ``medsynth.generator.export.save_file`` would write a file.
        is_open = trusted or target.startswith(_PACKAGE)
        found = getattr(importlib.import_module(module), name) if is_open else None
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} names {target}, which this version of medsynth cannot build ({error}){_OTHER}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module):
        raise InputError(
            f"{path} names {target}, which is not one of medsynth's generators: trust=true if it is your own."
        )
    try:
        return found(**{key: value for key, value in config.items() if key != "_target_"})
    except (InputError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} names {target}, which this version of medsynth cannot build ({error}){_OTHER}"
        ) from error
