"""What a run stands on besides its configuration: code, data, players, machine; for its loggers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import medsynth
from medsynth.contracts import Backbone


def facts(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    """Of a run that is about to start, by name; without names of people, machines or folders."""
    device = pl_module.device
    return {
        "medsynth": medsynth.__version__,
        "commit": commit(Path(medsynth.__file__).parents[1]),
        "trained": describe(pl_module),
        "data": trainer.datamodule.description,
        "data_fingerprint": fingerprint(trainer.datamodule),
        "num_train": trainer.datamodule.num_train,
        "num_val": trainer.datamodule.num_val,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "precision": str(trainer.precision),
        "torch": torch.__version__,
    }


def commit(checkout: Path) -> str | None:
    """Git commit of ``checkout``, with ``-dirty`` behind it where files are changed; None: no checkout, or no git."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None


def fingerprint(data: pl.LightningDataModule) -> str:
    """Equal where runs saw the same data prepared in the same way: of all that its source is made of, and of up to 64
    prepared validation images.
    """
    images = data.val_images(min(64, data.num_val))
    digest = hashlib.sha256(f"{data.content} {data.num_train} {data.num_val} {tuple(images.shape)}".encode())
    # 8 bits, so that the last bits of another processor's arithmetic make no difference.
    digest.update(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def describe(model: pl.LightningModule) -> str:
    """The players in one phrase, with the backbone's weights: what was trained against what."""
    discriminator = type(model.discriminator).__name__
    backbones = [module for module in model.discriminator.modules() if isinstance(module, Backbone)]
    if backbones:
        discriminator += f" on {' and '.join(map(_described, backbones))}"
    weights = sum(parameter.numel() for parameter in model.generator.parameters())
    generator = f"{type(model.generator).__name__} ({weights / 1e6:.2f} M weights)"
    loss = " + ".join([type(model.loss).__name__, *model.penalties])
    augmented = f", augmented by {', '.join(model.augmentations)}" if model.augmentations else ""
    return f"{generator} against {discriminator}, loss {loss}{augmented}"


def _described(backbone: Backbone) -> str:
    trained = {parameter.requires_grad for parameter in backbone.parameters()}
    state = {(False,): "frozen", (True,): "fine-tuned"}.get(tuple(trained), "partly fine-tuned")
    return f"{state} {backbone.model_name} ({backbone.weights_description})"
