"""The progress bar, in images."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm


class Progress(ProgressBar):
    """One bar over ``max_images`` with images/s, time left, both losses, the last validation, and the wait for data.

    Where the output is a file and not a terminal, a line every ``seconds`` seconds. ``data`` is the part of the
    time that the training stood still for the next batch.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._bar: tqdm | None = None
        self._clock = self._trained = self._waited = (
            0.0  # seconds: of the last batch, of training, of waiting before it
        )
        self._shown: dict[str, str] = {}

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        terminal = sys.stderr.isatty()
        self._clock, self._trained = time.perf_counter(), 0.0
        self._waited = trainer.train_dataloader.seconds_waited
        self._bar = tqdm(
            total=pl_module.max_images,
            initial=pl_module.images_seen,
            unit="img",
            unit_scale=False,
            desc="training",
            dynamic_ncols=terminal,
            mininterval=0.5 if terminal else self.seconds,
            maxinterval=10 if terminal else 2 * self.seconds,
            disable=not self._enabled,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._shown["D"] = f"{float(outputs['discriminator_loss']):.3f}"
        if "generator_loss" in outputs:
            self._shown["G"] = f"{float(outputs['generator_loss']):.3f}"
        now = time.perf_counter()
        self._trained, self._clock = self._trained + now - self._clock, now
        self._shown["data"] = f"{(trainer.train_dataloader.seconds_waited - self._waited) / self._trained:.0%}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(pl_module.images_seen - self._bar.n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.set_description_str("validating", refresh=sys.stderr.isatty())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        objective = getattr(trainer.checkpoint_callback, "monitor", None)
        if objective in trainer.callback_metrics:
            self._shown[objective] = f"{float(trainer.callback_metrics[objective]):.3g}"
        self._clock = time.perf_counter()  # validation is no training time
        if self._bar is not None:
            self._bar.set_description_str("training", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
