"""Typed access to what a trainer and its loggers hold, which Lightning's own types leave open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pytorch_lightning as pl

from medsynth.contracts import TrainingData


@runtime_checkable
class PictureLogger(Protocol):
    """A logger that takes pictures."""

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Log the pictures of these files, by name, under ``key``."""
        ...


@runtime_checkable
class GeneratorLogger(Protocol):
    """A logger that takes the exported generator and the best value of the objective."""

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """Log the exported file and its card."""
        ...

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Log values of the whole run."""
        ...


@runtime_checkable
class FindingLogger(Protocol):
    """A logger that takes the findings of the doctor."""

    def log_finding(self, finding: Mapping[str, Any], text: str) -> None:
        """Log a finding, as a record and in words."""
        ...


@runtime_checkable
class ClosableLogger(Protocol):
    """A logger that has to be closed at the end of a run."""

    def close(self, *, failed: bool, status: str | None = None) -> None:
        """End the logger's run with this status."""
        ...


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


def validation_values(trainer: pl.Trainer) -> dict[str, float]:
    """Return the values of the last validation, ``val/...``."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
