"""The callback that writes the provenance of a checkpoint into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

import medsynth
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import training_data


class Provenance(pl.Callback):
    """Adds ``run`` to each checkpoint: configuration, networks, origin of their weights, data, version.

    Args:
        config: the resolved configuration.
    """

    def __init__(self, config: Mapping[str, Any]):
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: GenerativeModule, checkpoint: dict[str, Any]) -> None:
        """Add the entry ``run``."""
        checkpoint["run"] = {
            "trained": pl_module.describe(),
            "data": training_data(trainer).description,
            "config": self.config,
            "version": medsynth.__version__,
        }
