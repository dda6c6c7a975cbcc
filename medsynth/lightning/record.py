"""Hands what a run measures to its loggers, against images_seen."""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import pytorch_lightning as pl

from medsynth.lightning.trainer_access import training_data
from medsynth.runs.provenance import TrainedModel, provenance

_log = logging.getLogger(__name__)
WAIT_WORTH_SAYING = 0.1


class Record(pl.Callback):
    """Writes the step's values as ``train/...`` every ``log_every_n_steps`` batches and each validation as ``val/...``.

    Lightning's own step counts the steps of both optimizers, so the loggers are given ``images_seen`` as their step.
    The provenance of the run is added to the loggers' configuration as ``run``.
    ``trainer/data_wait`` is the part of the time, 0 to 1, that the training stood still for the next batch.
    """

    def __init__(self) -> None:
        self._since = (0.0, 0, 0.0)
        self._started = (0.0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer, pl_module)
        self._started = (self._since[0], self._since[2])
        if trainer.is_global_zero:
            described = {
                "run": provenance(
                    cast(TrainedModel, pl_module),
                    training_data(trainer),
                    processes=trainer.world_size,
                    precision=str(trainer.precision),
                )
            }
            for logger in trainer.loggers:
                logger.log_hyperparams(described)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # By the run's own count, so that a resumed run writes the same rows.
        if pl_module.discriminator_updates % trainer.log_every_n_steps == 0 or trainer.should_stop:
            start, images, waited = self._since
            values = {f"train/{name}": float(value) for name, value in outputs.items()}
            seconds = max(time.perf_counter() - start, 1e-9)
            values["trainer/images_per_second"] = (pl_module.images_seen - images) / seconds
            values["trainer/data_wait"] = (trainer.train_dataloader.seconds_waited - waited) / seconds
            self._write(trainer, pl_module, values)
            self._begin(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._started[0]
        share = (trainer.train_dataloader.seconds_waited - self._started[1]) / max(seconds, 1e-9)
        if share > WAIT_WORTH_SAYING:
            _log.warning(
                "The training stood still for its data %.0f %% of the time: raise data.num_workers.", 100 * share
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._write(trainer, pl_module, values)
        self._begin(trainer, pl_module)  # validation is no training time

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = (time.perf_counter(), pl_module.images_seen, trainer.train_dataloader.seconds_waited)

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, values: dict[str, float]) -> None:
        values["trainer/images_seen"] = pl_module.images_seen
        for logger in trainer.loggers:
            logger.log_metrics(values, step=pl_module.images_seen)
