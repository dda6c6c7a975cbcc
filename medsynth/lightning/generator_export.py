"""The callback that exports the best generator of a run as a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from medsynth.generator.export import save_generator
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import GeneratorLogger, training_data, validation_values


class GeneratorExport(pl.Callback):
    """Writes the averaged generator to ``path`` whenever the validation's ``objective`` is lower than ever before.

    At the end of a run, also of one that fails, loggers that take generators get the file, its card and the best value.

    Args:
        path: the file, ``generator.safetensors`` in the run's folder.
        objective: the monitored metric, lower is better.
        config: class and arguments that rebuild the generator.
    """

    def __init__(self, *, path: Path, objective: str, config: Mapping[str, Any]):
        self.path = path
        self.objective = objective
        self.config = dict(config)
        self.best = float("inf")
        self.best_images_seen = 0
        self._card: dict[str, Any] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Export the generator, if it is the best so far."""
        value = float(trainer.callback_metrics[self.objective])
        if not value < self.best or not trainer.is_global_zero:
            return
        self.best, self.best_images_seen = value, pl_module.images_seen
        data = training_data(trainer)
        card = {
            "images_seen": pl_module.images_seen,
            "metrics": validation_values(trainer),
            "trained": pl_module.describe(),
            "data": data.description,
            "class_names": list(data.class_names) if pl_module.num_classes else [],
            "intensity": vars(data.intensity),
            "spacing": data.spacing,
            "modality": data.modality,
            "seed": pl_module.seed,
            **pl_module.card_entries(data),
        }
        save_generator(self.path, pl_module.ema_generator.module, config=self.config, card=card)
        self._card = card

    def on_fit_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Hand the best generator to the loggers."""
        self._hand_over(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: GenerativeModule, exception: BaseException) -> None:
        """Hand the best generator to the loggers."""
        self._hand_over(trainer)

    def _hand_over(self, trainer: pl.Trainer) -> None:
        if not self._card or not self.path.is_file():
            return  # nothing was better than the generator that the run handed over before it was resumed
        best = {f"best/{self.objective}": self.best, "best/images_seen": self.best_images_seen}
        for logger in trainer.loggers:
            if isinstance(logger, GeneratorLogger):
                logger.log_summary(best)
                logger.log_generator(self.path, self._card)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and when it was reached."""
        return {"best": self.best, "best_images_seen": self.best_images_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best value and when it was reached."""
        self.best, self.best_images_seen = state_dict["best"], state_dict["best_images_seen"]
