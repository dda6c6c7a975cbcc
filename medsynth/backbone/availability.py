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

from medsynth.backbone.packaged import PACKAGES, packaged_file, require_packaged_file
from medsynth.errors import InputError

CONNECTION_TIMEOUT = 5.0  # seconds; the hub's own client retries for 47 s
PATIENCE = 0.7  # seconds without an answer after which the user is told
# Where timm's weights of the networks of conf/backbone/ are: a repository of the hub, or a URL.
DOWNLOADS: dict[str, str] = json.loads(Path(__file__).with_name("downloads.json").read_text(encoding="utf-8"))

EMBEDDED = "medsynth_mini"
# The networks of conf/backbone/ as `medsynth backbones measure=true out=...json` has measured them.
MEASURED: tuple[dict[str, str], ...] = tuple(
    json.loads(Path(__file__).with_name("measured_backbones.json").read_text(encoding="utf-8"))
)
BACKBONES = {row["timm model"]: row["backbone"] for row in MEASURED}

_log = logging.getLogger(__name__)


def check_weights(*nodes: Any) -> None:
    """Refuse weights that are neither on this machine nor can be downloaded now.

    Of networks that ``DOWNLOADS`` does not name nothing is known here; they are checked when they are built.

    Args:
        nodes: resolved plain configurations; networks are looked for anywhere in them.

    Raises:
        InputError: says what can be had instead.
    """
    for model_name, weights in dict.fromkeys(chosen_weights(list(nodes))):
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
        f"{alternatives(name)}.",
        hint=offers(name),
    )


def offers(name: str) -> str:
    """Return a table of what can be trained on this machine instead of on timm's network ``name``, without a download.

    The numbers are of docs/presets.md: four minutes of one processor core, 800 head CT slices of 64 pixels.
    """
    at_hand = [model for model in DOWNLOADS if model not in PACKAGES and location(model) == "cached"]
    rows = [
        ("python train.py backbone=efficientnet_lite0", "ImageNet features, installed; crisp: kd_imagenet 0.38"),
        ("python train.py", "no pretrained network; varied, less crisp: kd_imagenet 0.48"),
        *(
            (f"python train.py backbone={_choice(model)}", "ImageNet features, in this machine's cache")
            for model in at_hand
        ),
        (f"medsynth fetch {_choice(name)}", "on a machine with a network: says what to copy to this one"),
        ("... backbone.weights=random", "untrained features, calibrated on the data: no usable images in our tests"),
    ]
    width = max(len(command) for command, _ in rows) + 2
    lines = [f"  {command:{width}}{expected}" for command, expected in rows]
    return "\n".join(
        ["Trains here without a download (800 head CT slices, lower is better, real images 0.001):", *lines]
    )


def location(model_name: str) -> str:
    """Tell where the weights of a network of conf/backbone/ are, without loading any library.

    Returns:
        ``embedded``, ``packaged`` (installed with medsynth), ``cached`` (on this machine), ``download`` or ``none``.
    """
    if model_name == EMBEDDED:
        return "embedded"
    if model_name in PACKAGES and packaged_file(model_name):
        return "packaged"
    place = DOWNLOADS.get(model_name)
    if place is None:
        return "none"
    return "cached" if _is_cached(place) else "download"


def cache_folders() -> dict[str, Path]:
    """Return the folders in which downloaded weights are kept, by the service that they are from."""
    return {"Hugging Face": Path(huggingface_hub.constants.HF_HUB_CACHE), "PyTorch": _torch_hub() / "checkpoints"}


def _choice(model_name: str) -> str:
    """Return the name that ``backbone=`` has for timm's ``model_name``, or how timm's is typed."""
    return BACKBONES.get(model_name, f"timm backbone.model_name={model_name}")


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


def chosen_weights(node: Any) -> Iterator[tuple[str, str]]:
    """Yield timm's name and the choice of weights of each network anywhere in a plain configuration."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and node.get("model_name") and node.get("weights"):
        yield str(node["model_name"]), str(node["weights"])
    for value in values:
        yield from chosen_weights(value)


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
        return (_torch_hub() / "checkpoints" / place.rsplit("/", 1)[-1]).is_file()
    repository = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{place.replace('/', '--')}"
    return any(repository.glob("snapshots/*/*"))  # which of its files is needed is seen when it is loaded


def _torch_hub() -> Path:
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home).expanduser() / "hub"


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
