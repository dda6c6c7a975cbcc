"""TensorBoard, by Lightning's logger: event files in the run's folder; ``tensorboard --logdir outputs`` shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from medsynth.errors import InputError
from medsynth.logger.guarded import Guarded


class TensorBoard:
    """Event files against images seen.

    They are opened with the first value: a resumed run then declares void what was logged after its checkpoint, and all
    that describes the run is in one table of hyperparameters.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._parameters: dict[str, Any] = {}
        self._logger: TensorBoardLogger | None = None
        self._step = 0

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        self._parameters.update(parameters)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._at(step).log_metrics(dict(values), step=step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        for title, path in pictures.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._at(step).experiment.add_image(f"{key}/{title}", pixels, step, dataformats="HWC")

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        text = f"{path}\n\n```json\n{json.dumps(card, indent=2)}\n```"
        self._at(self._step).experiment.add_text("generator", text, self._step)

    def log_summary(self, values: Mapping[str, float]) -> None:
        self.log_metrics({f"summary/{name}": value for name, value in values.items()}, self._step)

    def close(self, status: str) -> None:
        writer = self._at(self._step).experiment
        writer.add_text("status", status, self._step)
        writer.close()

    def _at(self, step: int) -> TensorBoardLogger:
        self._step = step
        if self._logger is None:
            options = {"default_hp_metric": False, "purge_step": step, "flush_secs": 20}
            self._logger = TensorBoardLogger(self.folder, name="", version="", **options)
            # Lightning writes the table only with a measure beside it.
            self._logger.log_hyperparams(self._parameters, metrics={"trainer/images_seen": step}, step=step)
        return self._logger


def build(*, folder: str, patience: float = 120) -> Guarded:
    """A TensorBoard logger that writes to ``folder``.

    Args:
        folder: of the event files.
        patience: seconds after which a disk that does not answer is given up.

    Raises:
        InputError: the package is missing.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            "logger=tensorboard needs the package tensorboard: pip install medsynth[tensorboard]."
        ) from error
    return Guarded("TensorBoard", lambda: TensorBoard(Path(folder)), patience=patience)
