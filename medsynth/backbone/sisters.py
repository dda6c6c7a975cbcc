"""Weights files held against the network that they are loaded into by more than names and shapes.

Sister networks differ in padding, in the epsilon of their normalization, or in the mean and standard deviation of
their input alone, and have the same names and shapes of weights. With a sister's weights they run, classify passably,
and give distorted features: those of timm's ``efficientnet_lite0`` with the weights of ``tf_efficientnet_lite0``
correlate 0.5 to 0.7 with the right ones.

A file is recognized by what its own network computes with it, the fingerprint: features of one fixed image. Unlike a
digest it does not depend on the file's format, precision or classifier, and it covers weights, padding and
standardization in one. Weights that somebody has trained further match no fingerprint and load as before, with a
warning where there is a sister network. A file of ``medsynth pretrain`` names its network itself.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.models import PretrainedCfg
from torch import Tensor

from medsynth.backbone.input_size import smallest_size
from medsynth.backbone.timm_network import TimmNetwork, create_network, pretrained_config
from medsynth.contracts import InputError
from medsynth.untrusted_files import UnreadableFile, parsed_json

LENGTH = 16  # values of a fingerprint
IMAGE_SIZE = 64  # pixels of the fixed image, or the network's smallest
# The largest distance of two fingerprints of the same weights, relative to their norm. Measured on EfficientNet-Lite0,
# 1 and 2: 0.003 for weights in half precision, 0.009 in bfloat16, 0.19 after one step of training, 0.34 to 0.68 in
# the sister.
TOLERANCE = 0.03
FINGERPRINTS: dict[str, list[float]] = json.loads(
    Path(__file__).with_name("fingerprints.json").read_text(encoding="utf-8")
)

_log = logging.getLogger(__name__)


@torch.no_grad()
def fingerprint(network: TimmNetwork) -> Tensor:
    """Compute the fingerprint of a network's weights: means of ``LENGTH`` parts of its features of one fixed image."""
    config = PretrainedCfg(**network.pretrained_cfg)
    channels, side = config.input_size[0], max(IMAGE_SIZE, smallest_size(config))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [torch.sin(0.11 * (c + 1) * rows + 0.3 * c) * torch.cos(0.07 * (c + 2) * columns) for c in range(channels)]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.mean, config.std))
    training = any(module.training for module in network.modules())
    network.eval()
    image = (torch.stack(waves)[None] / 2 + 0.5 - mean) / std
    features = network.forward_head(network.forward_features(image), pre_logits=True)
    network.train(training)
    return torch.stack([part.mean() for part in features[0].chunk(LENGTH)])


def is_known(network: TimmNetwork, name: str) -> bool:
    """Test whether ``network`` computes what timm's ``name`` computes with its known weights; False: it has none."""
    if name not in FINGERPRINTS:
        return False
    known = torch.tensor(FINGERPRINTS[name])
    return bool((fingerprint(network) - known).norm() <= TOLERANCE * known.norm())


def check_network(network: TimmNetwork, model_name: str, path: Path) -> None:
    """Refuse a file of another network's weights that has been loaded into ``network``; warn where it could be one.

    Args:
        network: with the weights of the file.
        model_name: timm's name of it, with or without a tag; a tag says which mean and standard deviation are meant.
        path: the file.

    Raises:
        InputError: the file is known to be another network's; the message says whose.
    """
    own, recorded = pretrained_config(model_name), _recorded_network(path)
    if recorded is not None:
        if _treatment(pretrained_config(recorded)) != _treatment(own):
            raise _of_another(path, model_name, recorded)
        return
    sisters = list(_sisters(network, model_name, own))
    if not sisters or is_known(network, str(own.architecture)):
        return
    for name in sisters:
        if name in FINGERPRINTS and is_known(_with_weights_of(network, name), name):
            raise _of_another(path, model_name, name)
    if "." not in model_name:
        _log.warning(
            "%s fits %s, but %s has the same names and shapes of weights and pads or standardizes otherwise: if the "
            "file is of that one, type backbone=timm backbone.model_name=%s.",
            path.name,
            model_name,
            " or ".join(sisters),
            sisters[0],
        )


def fitting(state: Mapping[str, Tensor]) -> str | None:
    """Return the known network that has just these names and shapes of weights, with or without classifier."""
    for name in FINGERPRINTS:
        shapes = _shapes(name)
        rest = state.keys() - shapes.keys()
        classifiers = pretrained_config(name).classifier
        names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers or ())
        headless = all(key.rpartition(".")[0] in names for key in rest)
        if headless and all(key in state and state[key].shape == shape for key, shape in shapes.items()):
            return name
    return None


def _sisters(network: TimmNetwork, model_name: str, own: PretrainedCfg) -> Iterator[str]:
    """Yield networks with the same names and shapes of weights that pad or standardize otherwise."""
    architecture, _, tag = model_name.partition(".")
    other = architecture.removeprefix("tf_") if architecture.startswith("tf_") else f"tf_{architecture}"
    if timm.is_model(other):
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        if all(shapes.get(key) == shape for key, shape in _shapes(other).items()):
            yield other
    if tag:
        return
    treatments = {_treatment(own)}
    for name in timm.list_pretrained(f"{architecture}.*"):
        treatment = _treatment(pretrained_config(name))
        if treatment not in treatments:
            treatments.add(treatment)
            yield name


def _treatment(config: PretrainedCfg) -> tuple[object, ...]:
    """Return the parts of timm's description on which the features of given weights depend."""
    return config.architecture, tuple(config.mean), tuple(config.std)


@functools.cache
def _shapes(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: value.shape for key, value in create_network(name, num_classes=0).state_dict().items()}


def _with_weights_of(network: TimmNetwork, name: str) -> TimmNetwork:
    other = create_network(name, num_classes=0)
    names = other.state_dict().keys()
    other.load_state_dict({key: value for key, value in network.state_dict().items() if key in names})
    return other


def _recorded_network(path: Path) -> str | None:
    """Return timm's name of the network for which ``medsynth pretrain`` wrote the file; None: another wrote it."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = parsed_json((file.metadata() or {}).get("medsynth", "null"))
    except (SafetensorError, UnreadableFile, ValueError, RecursionError):
        return None
    name = record.get("model") if isinstance(record, dict) else None
    try:
        return name if isinstance(name, str) and pretrained_config(name) else None
    except InputError:  # no network of this version of timm
        return None


def _of_another(path: Path, model_name: str, right: str) -> InputError:
    return InputError(
        f"backbone.weights={path} holds the weights of {right}, whose padding, mean or standard deviation differ from "
        f"those of {model_name}: type backbone=timm backbone.model_name={right} backbone.weights={path}."
    )
