"""The callback that hands a run's measurements to its loggers, against images_seen."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import seconds_waited, training_data, validation_values
from medsynth.runs.provenance import provenance

_log = logging.getLogger(__name__)
_NOTABLE_WAIT = 0.1  # fraction of the time


class Record(pl.Callback):
    """Logs the step's values as ``train/...`` every ``log_every_n_steps`` batches and each validation as ``val/...``.

    Lightning's own step counts the steps of both optimizers, so the loggers are given ``images_seen`` as their step.
    The run's provenance is added to the loggers' configuration as ``run``. ``trainer/data_wait`` is the fraction of the
    time, 0 to 1, that the training stood still for the next batch.
    """

    def __init__(self) -> None:
        self._since = (0.0, 0, 0.0)  # time, images seen and seconds waited at the last record
        self._started = (0.0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Log the run's provenance."""
        self._begin(trainer, pl_module)
        self._started = (self._since[0], self._since[2])
        if trainer.is_global_zero:
            described = {
                "run": provenance(
                    pl_module,
                    training_data(trainer),
                    device=pl_module.device,
                    processes=trainer.world_size,
                    precision=str(trainer.precision),
                )
            }
            for logger in trainer.loggers:
                logger.log_hyperparams(described)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step's values, if it is the step's turn."""
        # By the run's own count, so that a resumed run writes the same rows.
        every = getattr(trainer, "log_every_n_steps", 50)
        if pl_module.steps % every == 0 or trainer.should_stop:
            start, images, waited = self._since
            seconds = max(time.perf_counter() - start, 1e-9)
            speed = {
                "trainer/images_per_second": (pl_module.images_seen - images) / seconds,
                "trainer/data_wait": (seconds_waited(trainer) - waited) / seconds,
            }
            values = {f"train/{name}": float(value) for name, value in outputs.items()}
            self._write(trainer, pl_module, values | speed)
            self._begin(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Warn where the training stood still for its data for a notable fraction of the time."""
        seconds = time.perf_counter() - self._started[0]
        waited = (seconds_waited(trainer) - self._started[1]) / max(seconds, 1e-9)
        if waited > _NOTABLE_WAIT:
            _log.warning(
                "The training stood still for its data %.0f %% of the time: raise data.num_workers.", 100 * waited
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Log the validation's values."""
        self._write(trainer, pl_module, validation_values(trainer))
        self._begin(trainer, pl_module)  # validation is no training time

    def _begin(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        self._since = (time.perf_counter(), pl_module.images_seen, seconds_waited(trainer))

    def _write(self, trainer: pl.Trainer, pl_module: GenerativeModule, values: Mapping[str, float]) -> None:
        values = {**values, "trainer/images_seen": pl_module.images_seen}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=pl_module.images_seen)
