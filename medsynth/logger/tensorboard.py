"""TensorBoard logger, built on Lightning's: event files in the run's folder (``tensorboard --logdir outputs``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from medsynth.errors import InputError, extra_command
from medsynth.logger.guarded_logger import GuardedLogger


class TensorBoard:
    """Event files whose steps are real images seen.

    They are opened with the first value: only then is the step known after which a resumed run purges earlier values,
    and all hyperparameters, which TensorBoard takes once, are there.

    Args:
        folder: folder of the event files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._parameters: dict[str, Any] = {}
        self._logger: TensorBoardLogger | None = None
        self._step = 0

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        """Add ``parameters`` to the description of the run."""
        self._parameters.update(parameters)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log ``values`` at ``step`` real images seen."""
        self._at(step).log_metrics(dict(values), step=step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Log image files by title, as ``key/title``."""
        for title, path in pictures.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._at(step).experiment.add_image(f"{key}/{title}", pixels, step, dataformats="HWC")

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """Log the exported generator with its model card."""
        text = f"{path.name}\n\n```json\n{json.dumps(card, indent=2)}\n```"
        self._at(self._step).experiment.add_text("generator", text, self._step)

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Log values of the run as a whole."""
        self.log_metrics({f"summary/{name}": value for name, value in values.items()}, self._step)

    def log_finding(self, finding: Mapping[str, Any], text: str) -> None:
        """Log a finding of the doctor as a text."""
        step = int(finding["last"])
        self._at(step).experiment.add_text(f"finding/{finding['name']}", text, step)

    def close(self, status: str) -> None:
        """End the run with ``status``."""
        writer = self._at(self._step).experiment
        writer.add_text("status", status, self._step)
        writer.close()

    def _at(self, step: int) -> TensorBoardLogger:
        self._step = step
        if self._logger is None:
            options = {"default_hp_metric": False, "purge_step": step, "flush_secs": 20}
            self._logger = TensorBoardLogger(self.folder, name="", version="", **options)
            # Lightning writes the hyperparameters only together with a metric.
            self._logger.log_hyperparams(self._parameters, metrics={"trainer/images_seen": step}, step=step)
        return self._logger


def build(*, folder: str, patience: float = 120) -> GuardedLogger:
    """Return a TensorBoard logger that writes to ``folder``.

    Args:
        folder: folder of the event files.
        patience: seconds after which a disk that does not answer is abandoned.

    Raises:
        InputError: the package tensorboard is not installed.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"logger=tensorboard needs the package tensorboard: type {extra_command('tensorboard')}."
        ) from error
    return GuardedLogger("TensorBoard", lambda: TensorBoard(Path(folder)), patience=patience)
