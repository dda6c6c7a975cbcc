"""Where a backbone's weights come from. What was asked for is loaded entirely, or an InputError says why not."""

from __future__ import annotations

import hashlib
import pickle
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from medsynth.contracts import InputError

AUXILIARY = "AuxLogits."  # inception_v3's second classifier, which serves its own training alone
CONNECTION_TIMEOUT = 5.0  # seconds; the hub's own client tries again for 47 s before it gives up


def load_pretrained(name: str, network_options: dict[str, Any]) -> tuple[nn.Module, str]:
    """timm's own weights, from the local cache or the network they are published on -> network, description."""
    config = timm.get_pretrained_cfg(name)
    if config.hf_hub_id:
        # Such files are in timm's own format, whatever the format is at the URL that it knows beside them.
        overlay = {"file": str(_from_hub(name, config)), "custom_load": False}
    elif config.url:
        overlay = {"file": str(_from_url(name, config.url))}
    else:
        raise InputError(
            f"timm has no pretrained weights of {name}: backbone.weights=embedded (backbone=mini only), "
            "backbone.weights=/path/to/file or backbone.weights=random."
        )
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **network_options)
    return network, f"timm {_full_name(config)} (pretrained)"


def load_file(network: nn.Module, path: Path, *, headless: bool) -> str:
    """Load a state dict (safetensors, or PyTorch's format with tensors only) into a timm network -> description.

    The file must hold all of the network's weights and nothing else; a headless network leaves the classifier's aside,
    and an auxiliary classifier's are left aside in any case.
    """
    name = network.pretrained_cfg["architecture"]
    state = {key: value for key, value in _read(path).items() if not key.startswith(AUXILIARY)}
    if headless:
        state = {key: value for key, value in state.items() if not _is_classifier(key, network.pretrained_cfg)}
    try:
        keys = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise InputError(f"backbone.weights={path} does not fit {name}: {reason}.") from error
    wrong = [f"{what} {_some(names)}" for what, names in zip(("lacks", "has also"), keys, strict=True) if names]
    if wrong:
        raise InputError(f"backbone.weights={path} holds other weights than {name}'s: it {' and '.join(wrong)}.")
    return f"file {path.name} sha256 {sha256(path)[:16]}"


def embedded_file(name: str) -> Path:
    """The file that ships with medsynth."""
    path = timm.get_pretrained_cfg(name).file
    if path is None:
        raise InputError(
            f"backbone.weights=embedded: no weights of {name} ship with medsynth, only medsynth_mini's "
            "(backbone=mini): backbone.weights=pretrained, backbone.weights=/path/to/file or backbone.weights=random."
        )
    return Path(path)


def weights_location(name: str) -> str:
    """Tell where timm's pretrained weights are: ``embedded``, ``cached``, ``download`` or ``none``.

    It looks on this machine alone.
    """
    config = timm.get_pretrained_cfg(name)
    if config.file:
        return "embedded"
    if config.hf_hub_id:
        there = isinstance(huggingface_hub.try_to_load_from_cache(**_hub_file(config)), str)
    elif config.url:
        there = _url_file(config.url)[1].is_file()
    else:
        return "none"
    return "cached" if there else "download"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _full_name(config) -> str:
    return f"{config.architecture}.{config.tag}" if config.tag else config.architecture


def _is_classifier(key: str, config: dict[str, Any]) -> bool:
    names = config["classifier"] or ()
    names = (names,) if isinstance(names, str) else names
    return any(key.startswith(f"{name}.") for name in names)


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            f"backbone.weights={path} is not a file: give pretrained, random, embedded (backbone=mini), or the path of "
            "a .safetensors or PyTorch state dict file."
        )
    try:
        return load_state_dict(str(path), weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError) as error:
        raise InputError(f"backbone.weights={path} is not a .safetensors or PyTorch file of weights alone.") from error


def _from_hub(name: str, config) -> Path:
    """The weights' path in the Hugging Face cache; downloads them if they are not there."""
    file = _hub_file(config)
    repository = file["repo_id"]
    cached = huggingface_hub.try_to_load_from_cache(**file)
    if isinstance(cached, str):
        return Path(cached)
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    if offline or not _answers(huggingface_hub.hf_hub_url(**file)):
        raise _unreachable(name, repository, "HF_HUB_OFFLINE is set" if offline else "no connection")
    try:
        return Path(huggingface_hub.hf_hub_download(**file))
    except Exception as error:  # which errors there are depends on the hub's HTTP client, and that on its version
        raise _unreachable(name, repository, str(error).splitlines()[0]) from error


def _from_url(name: str, source: str | tuple[str, str]) -> Path:
    """The weights' path in PyTorch's cache; downloads them if they are not there. Source: URL, or URL and file name."""
    url, path = _url_file(source)
    if path.is_file():
        return path
    if not _answers(url):
        raise _unreachable(name, url, "no connection")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:
        raise _unreachable(name, url, str(error)) from error
    return path


def _hub_file(config) -> dict[str, str]:
    """What the Hugging Face hub is asked for."""
    repository, _, revision = config.hf_hub_id.partition("@")
    file = {"repo_id": repository, "filename": config.hf_hub_filename or "model.safetensors"}
    return file | ({"revision": revision} if revision else {})


def _url_file(source: str | tuple[str, str]) -> tuple[str, Path]:
    """The URL, and the place in PyTorch's cache where its file belongs."""
    url, file = (source, source.rsplit("/", 1)[-1]) if isinstance(source, str) else source
    return url, Path(torch.hub.get_dir()) / "checkpoints" / file


def _unreachable(name: str, place: str, reason: str) -> InputError:
    return InputError(
        f"The pretrained weights of {name} are not in the local cache and cannot be had from {place} ({reason}): "
        "backbone.weights=pretrained where a network is, backbone.weights=/path/to/file, or backbone.weights=random."
    )


def _answers(url: str) -> bool:
    """Whether there is any answer from ``url`` within seconds. Name resolution has no timeout of its own: a thread."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(_head(url)), daemon=True)
    thread.start()
    thread.join(CONNECTION_TIMEOUT + 1)
    return answers == [True]


def _head(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=CONNECTION_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an answer; the download will say what is wrong
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # other clients may have the certificates that urllib lacks
    except OSError:
        return False
    return True
