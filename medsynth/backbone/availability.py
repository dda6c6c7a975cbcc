"""Check of weights before PyTorch is loaded: those that are not on this machine have to be downloadable now.

This file imports no heavy library, so that ``python train.py backbone=xception`` without a network is refused at once
and not after the libraries are loaded and the data is prepared.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants

from medsynth.backbone.packaged import PACKAGES, require_packaged_file
from medsynth.errors import InputError

CONNECTION_TIMEOUT = 5.0  # seconds; the hub's own client retries for 47 s
PATIENCE = 0.7  # seconds without an answer after which the user is told
# Where timm's weights of the networks of conf/backbone/ are: a repository of the hub, or a URL.
DOWNLOADS: dict[str, str] = json.loads(Path(__file__).with_name("downloads.json").read_text())

_log = logging.getLogger(__name__)


def check_weights(*nodes: Any) -> None:
    """Refuse weights that are neither on this machine nor can be downloaded now.

    Of networks that ``DOWNLOADS`` does not name nothing is known here; they are checked when they are built.

    Args:
        nodes: resolved plain configurations; networks are looked for anywhere in them.

    Raises:
        InputError: says what can be had instead.
    """
    for model_name, weights in dict.fromkeys(choice for node in nodes for choice in _choices(node)):
        if weights == "packaged":
            require_packaged_file(model_name)
        elif weights == "pretrained":
            _check_download(model_name)
        elif weights not in ("auto", "embedded", "random"):
            require_file(Path(weights).expanduser())


def require_file(path: Path) -> None:
    """Check that a file of weights exists.

    Raises:
        InputError: it does not.
    """
    if not path.is_file():
        raise InputError(
            f"backbone.weights={path} is not a file: give pretrained, packaged (backbone=efficientnet_lite0), random, "
            "embedded (backbone=mini only), or the path of a .safetensors or PyTorch state dict file."
        )


def unreachable(name: str, place: str, reason: str) -> InputError:
    """Return the error for weights that are not on this machine and cannot be downloaded from ``place``."""
    return InputError(
        f"The pretrained weights of {name} are not on this machine and cannot be downloaded from {place} ({reason}): "
        f"{alternatives(name)}."
    )


def alternatives(name: str) -> str:
    """Say what can be had instead of a download of the weights of timm's network ``name``."""
    architecture = name.partition(".")[0]
    at_once = "backbone.weights=packaged" if architecture in PACKAGES else "backbone=efficientnet_lite0"
    return (
        "connect this machine once, or give backbone.weights=/path/to/file or backbone.weights=random; "
        f"{at_once} works at once, since its ImageNet weights are installed with medsynth"
    )


def answers(url: str, *, waiting: Callable[[], None] | None = None) -> bool:
    """Test whether ``url`` answers within seconds; in a thread, since name resolution has no timeout of its own.

    Args:
        url: asked for its head alone.
        waiting: called once if there is no answer, and no refusal either, after ``PATIENCE`` seconds.
    """
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(_head(url)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive() and waiting is not None:
        waiting()
    thread.join(CONNECTION_TIMEOUT + 1 - PATIENCE)
    return found == [True]


def _choices(node: Any) -> Iterator[tuple[str, str]]:
    """Yield timm's name and the choice of weights of each network anywhere in a plain configuration."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and node.get("model_name") and node.get("weights"):
        yield str(node["model_name"]), str(node["weights"])
    for value in values:
        yield from _choices(value)


def _check_download(model_name: str) -> None:
    place = DOWNLOADS.get(model_name)
    if place is None or _is_cached(place):
        return
    is_url = "://" in place
    if not is_url and huggingface_hub.constants.HF_HUB_OFFLINE:
        raise unreachable(model_name, place, "HF_HUB_OFFLINE is set")
    url = place if is_url else f"{huggingface_hub.constants.ENDPOINT}/{place}"

    def waiting() -> None:
        host = urllib.parse.urlsplit(url).hostname
        _log.warning(
            "The pretrained weights of %s are not on this machine. Waiting for %s to answer; where there is no "
            "network, %s.",
            model_name,
            host,
            alternatives(model_name),
        )

    if not answers(url, waiting=waiting):
        raise unreachable(model_name, place, "no connection")


def _is_cached(place: str) -> bool:
    if "://" in place:
        home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
        return (Path(home).expanduser() / "hub" / "checkpoints" / place.rsplit("/", 1)[-1]).is_file()
    repository = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{place.replace('/', '--')}"
    return any(repository.glob("snapshots/*/*"))  # which of its files is needed is seen when it is loaded


def _head(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=CONNECTION_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an answer; the download's own error will name the problem
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # other clients may have the certificates that urllib lacks
    except OSError:
        return False
    return True
