"""Hands what a run measures to its loggers, against images_seen."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl


class Record(pl.Callback):
    """Writes the step's values as ``train/...`` every ``log_every_n_steps`` batches and each validation as ``val/...``.

    Lightning's own step counts the steps of both optimizers, so the loggers are given ``images_seen`` as their step.
    """

    def __init__(self) -> None:
        self._since = (0.0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = (time.perf_counter(), pl_module.images_seen)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # By the run's own count, so that a resumed run writes the same rows.
        if pl_module.discriminator_updates % trainer.log_every_n_steps == 0 or trainer.should_stop:
            now, images = time.perf_counter(), pl_module.images_seen
            values = {f"train/{name}": float(value) for name, value in outputs.items()}
            values["trainer/images_per_second"] = (images - self._since[1]) / max(now - self._since[0], 1e-9)
            self._write(trainer, pl_module, values)
            self._since = (now, images)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._write(trainer, pl_module, values)
        self._since = (time.perf_counter(), pl_module.images_seen)  # validation is no training time

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, values: dict[str, float]) -> None:
        values["trainer/images_seen"] = pl_module.images_seen
        for logger in trainer.loggers:
            logger.log_metrics(values, step=pl_module.images_seen)
