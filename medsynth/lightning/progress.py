"""The progress bar of a training, in images."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import seconds_waited
from medsynth.terminal import SECONDS, Bar


class Progress(ProgressBar):
    """One bar over ``max_images`` with images/s, time left, both losses, the last validation, and the wait for data.

    Where the output is a file and not a terminal, it is a line every ``seconds`` seconds. ``data`` is the fraction of
    the time that the training stood still for the next batch.

    Args:
        seconds: between two lines in a file.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._bar: Bar | None = None
        self._clock = 0.0  # when the last batch ended
        self._trained = 0.0  # seconds of training
        self._waited = 0.0  # seconds waited for data before this training
        self._shown: dict[str, str] = {}

    def disable(self) -> None:
        """Show nothing: Lightning calls this in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Open the bar at the images seen so far."""
        self._clock, self._trained = time.perf_counter(), 0.0
        self._waited = seconds_waited(trainer)
        self._bar = Bar(
            pl_module.max_images,
            "training",
            "img",
            initial=pl_module.images_seen,
            seconds=self.seconds,
            enabled=self._enabled,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the images seen, the losses and the wait for data."""
        assert self._bar is not None
        for network, short in {"discriminator": "D", "generator": "G"}.items():
            if f"{network}_loss" in outputs:
                self._shown[short] = f"{float(outputs[f'{network}_loss']):.3f}"
        now = time.perf_counter()
        self._trained, self._clock = self._trained + now - self._clock, now
        self._shown["data"] = f"{(seconds_waited(trainer) - self._waited) / self._trained:.0%}"
        self._bar.show(pl_module.images_seen, self._shown)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Say that a validation runs."""
        if self._bar is not None:
            self._bar.rename("validating")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Show the validation's objective."""
        objective = getattr(trainer.checkpoint_callback, "monitor", None)
        if objective in trainer.callback_metrics:
            self._shown[objective] = f"{float(trainer.callback_metrics[objective]):.3g}"
        self._clock = time.perf_counter()  # validation is no training time
        if self._bar is not None:
            self._bar.rename("training")

    def on_train_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: GenerativeModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
