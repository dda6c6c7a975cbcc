"""What made a checkpoint, written into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

import medsynth
from medsynth.runs.provenance import describe


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
