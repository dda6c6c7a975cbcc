"""Provenance of a run besides its configuration: code, data, networks, machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

import medsynth
from medsynth.contracts import (
    Augmentation,
    Backbone,
    Discriminator,
    Generator,
    GeneratorPenalty,
    ImagePenalty,
    LogitPenalty,
    Loss,
    Penalty,
    TrainingData,
)


class TrainedModel(Protocol):
    """The members of a GAN that its provenance names."""

    generator: Generator
    discriminator: Discriminator
    loss: Loss

    @property
    def penalties(self) -> Mapping[str, Penalty | LogitPenalty | ImagePenalty]:
        """Terms of the discriminator's loss, by name."""
        ...

    @property
    def generator_penalties(self) -> Mapping[str, GeneratorPenalty]:
        """Terms of the generator's loss, by name."""
        ...

    @property
    def augmentations(self) -> Mapping[str, Augmentation]:
        """Augmentations inside the step, by name."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        ...


def provenance(model: TrainedModel, data: TrainingData, *, processes: int, precision: str) -> dict[str, Any]:
    """Describe a run that is about to start, by name; without names of people, machines or folders."""
    device = model.device
    return {
        "medsynth": medsynth.__version__,
        "commit": commit(Path(medsynth.__file__).parents[1]),
        "trained": describe(model),
        "data": data.description,
        "data_fingerprint": fingerprint(data),
        "num_train": data.num_train,
        "num_val": data.num_val,
        "num_test": data.num_test,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "precision": precision,
        "torch": torch.__version__,
    }


def commit(checkout: Path) -> str | None:
    """Return the Git commit of ``checkout``, with ``-dirty`` where files are changed; None: no checkout, or no git."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None


def fingerprint(data: TrainingData) -> str:
    """Return a digest that is equal where runs see the same data prepared in the same way.

    It covers the content of the data and up to 64 prepared validation images.
    """
    images = data.val_images(min(64, data.num_val))
    digest = hashlib.sha256(f"{data.content} {data.num_train} {data.num_val} {tuple(images.shape)}".encode())
    # 8 bits, so that the last bits of another processor's arithmetic make no difference.
    digest.update(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def describe(model: TrainedModel) -> str:
    """Describe the networks, with the backbone's weights, and their loss in one phrase."""
    discriminator = type(model.discriminator).__name__
    backbones = [module for module in model.discriminator.modules() if isinstance(module, Backbone)]
    if backbones:
        discriminator += f" on {' and '.join(map(_described, backbones))}"
    parameters = sum(parameter.numel() for parameter in model.generator.parameters())
    generator = f"{type(model.generator).__name__} ({parameters / 1e6:.2f} M parameters)"
    loss = " + ".join([type(model.loss).__name__, *model.penalties, *model.generator_penalties])
    augmented = f", augmented by {', '.join(model.augmentations)}" if model.augmentations else ""
    return f"{generator} against {discriminator}, loss {loss}{augmented}"


def _described(backbone: Backbone) -> str:
    trained = {parameter.requires_grad for parameter in backbone.parameters()}
    state = "partly fine-tuned" if len(trained) == 2 else "fine-tuned" if True in trained else "frozen"
    return f"{state} {backbone.model_name} ({backbone.weights_description})"
