"""What made a checkpoint, written into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

import medsynth
from medsynth.contracts import Backbone


class Provenance(pl.Callback):
    """Adds ``run`` to each checkpoint: resolved configuration, players, origin of their weights, data, version."""

    def __init__(self, config: Mapping[str, Any]):
        self.config = dict(config)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["run"] = {
            "trained": describe(pl_module),
            "data": trainer.datamodule.description,
            "config": self.config,
            "version": medsynth.__version__,
        }


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
