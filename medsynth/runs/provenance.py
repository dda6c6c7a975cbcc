"""Provenance of a run besides its configuration: code, data, networks, machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import torch

import medsynth
from medsynth.contracts import Backbone, Discriminator, Network, TrainingData


class TrainedModel(Protocol):
    """The members of a task's module that its provenance needs."""

    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""
        ...


def provenance(
    model: TrainedModel, data: TrainingData, *, device: torch.device, processes: int, precision: str
) -> dict[str, Any]:
    """Describe a run by name; without names of people, machines or folders.

    Args:
        model: the task's module.
        data: the images.
        device: that the run trains on. After a training Lightning has moved the module to the CPU.
        processes: that share each batch.
        precision: of the training.
    """
    return {
        "medsynth": medsynth.__version__,
        "commit": commit(Path(medsynth.__file__).parents[1]),
        "trained": model.describe(),
        "data": data.description,
        "data_fingerprint": fingerprint(data),
        "split_by": data.split_by,
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
    images = data.val_batch(min(64, data.num_val))["image"]
    digest = hashlib.sha256(f"{data.content} {data.num_train} {data.num_val} {tuple(images.shape)}".encode())
    # 8 bits, so that the last bits of another processor's arithmetic make no difference.
    digest.update(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def described_generator(generator: Network) -> str:
    """Return a generator's class and size."""
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    return f"{type(generator).__name__} ({parameters / 1e6:.2f} M parameters)"


def described_discriminator(discriminator: Discriminator) -> str:
    """Return a discriminator's class and its backbones with their weights."""
    backbones = [module for module in discriminator.modules() if isinstance(module, Backbone)]
    on = f" on {' and '.join(map(_described, backbones))}" if backbones else ""
    return type(discriminator).__name__ + on


def _described(backbone: Backbone) -> str:
    trained = {parameter.requires_grad for parameter in backbone.parameters()}
    state = "partly fine-tuned" if len(trained) == 2 else "fine-tuned" if True in trained else "frozen"
    return f"{state} {backbone.model_name} ({backbone.weights_description})"
