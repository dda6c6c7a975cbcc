"""Typed access to what a trainer holds, which Lightning's own types leave open."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import pytorch_lightning as pl

from medsynth.contracts import TrainingData


@runtime_checkable
class _TimedLoader(Protocol):
    seconds_waited: float


def training_data(trainer: pl.Trainer) -> TrainingData:
    """Return the data module that the trainer was given."""
    return cast(TrainingData, getattr(trainer, "datamodule", None))


def seconds_waited(trainer: pl.Trainer) -> float:
    """Return the seconds that the training has stood still for its data; 0 for a loader that does not measure them."""
    loader = trainer.train_dataloader
    return loader.seconds_waited if isinstance(loader, _TimedLoader) else 0.0
