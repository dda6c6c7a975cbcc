"""A logger beside metrics.csv, kept from ever harming a training."""

from __future__ import annotations

import contextlib
import logging
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from medsynth.errors import InputError
from medsynth.run_folder import COMPLETED, FAILED

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """What W&B, TensorBoard and MLflow are each asked for; any of these may raise."""

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        """Add to what the run is described by; nested."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Values at ``step`` real images seen."""

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Image files by title."""

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """The exported generator and what its user must know."""

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Values of the run as a whole."""

    def close(self, status: str) -> None:
        """End the run; ``status`` is one of ``run_folder.STATUSES``."""


class Guarded(Logger):
    """Hands everything to a sink until it first fails; then says so in one sentence and goes quiet for this run.

    Processes of a parallel training other than the first log nothing.

    Args:
        title: the service, for people.
        opening: starts the service's run; an ``InputError`` of it passes, as the user can mend that.
    """

    def __init__(self, title: str, opening: Callable[[], Sink]):
        super().__init__()
        self.title = title
        self._sink: Sink | None = None
        if rank_zero_only.rank == 0:
            self._try(lambda: setattr(self, "_sink", opening()))

    @property
    def name(self) -> str:
        return self.title

    @property
    def version(self) -> str:
        return ""

    @property
    def active(self) -> bool:
        """Whether the service still takes what it is given."""
        return self._sink is not None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        parameters = vars(params) if isinstance(params, Namespace) else params
        self._hand("log_hyperparams", parameters)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._hand("log_metrics", metrics, step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Image files by title, at ``step`` real images seen."""
        self._hand("log_pictures", key, pictures, step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """The exported generator in ``path`` and its card."""
        self._hand("log_generator", path, card)

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Values of the run as a whole, such as its best objective or those of an evaluation."""
        self._hand("log_summary", values)

    def close(self, *, failed: bool, status: str | None = None) -> None:
        """End the service's run; without it the next job of the same process would write into this one.

        Args:
            failed: whether the run did not complete.
            status: one of ``run_folder.STATUSES``; None: completed or failed.
        """
        self._hand("close", status or (FAILED if failed else COMPLETED))
        self._sink = None

    def _hand(self, method: str, *arguments: Any) -> None:
        sink = self._sink
        if sink is not None:
            self._try(lambda: getattr(sink, method)(*arguments))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except InputError:
            raise
        except Exception as error:
            sink, self._sink = self._sink, None
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.warning("%s failed and is off for the rest of this run; metrics.csv goes on (%s).", self.title, said)
            if sink is not None:
                with contextlib.suppress(Exception):
                    sink.close(FAILED)
