"""A logger beside metrics.csv, kept from ever harming a training."""

from __future__ import annotations

import copy
import logging
from argparse import Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from medsynth.errors import InputError
from medsynth.logger.courier import CAPACITY, Courier
from medsynth.runs.status import COMPLETED, FAILED

AFTERMATH = 3.0  # seconds that the end of a run leaves to a service that was given up
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """What W&B, TensorBoard and MLflow are each asked for, on one thread; any of these may raise, or never return."""

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
    """Hands everything to a sink until it first fails or hangs; then says so in one sentence and goes quiet.

    The sink is opened, called and closed on a thread of its own, in order: only the start and the end of a run wait.
    Processes of a parallel training other than the first log nothing.

    Args:
        title: the service, for people.
        opening: starts the service's run; an ``InputError`` of it passes, as the user can mend that.
        patience: seconds for the start, for each call, and for the end with all that still waits.
        abandon: ends what a service that hangs would leave behind; must not wait for it.
    """

    def __init__(
        self,
        title: str,
        opening: Callable[[], Sink],
        *,
        patience: float = 120.0,
        abandon: Callable[[], None] | None = None,
    ):
        super().__init__()
        self.title = title
        self._patience, self._abandon = patience, abandon
        self._sink: Sink | None = None
        self._courier: Courier | None = None
        self._closed = False
        if rank_zero_only.rank == 0:
            self._start(opening)

    @property
    def name(self) -> str:
        return self.title

    @property
    def version(self) -> str:
        return ""

    @property
    def active(self) -> bool:
        """Whether the service still takes what it is given, as far as is known by now."""
        return self._courier is not None and not self._closed and not self._courier.retired

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        parameters = vars(params) if isinstance(params, Namespace) else params
        self._hand("log_hyperparams", parameters)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._hand("log_metrics", metrics, step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Image files by title, at ``step`` real images seen.

        They are read later, and not copied: what was handed over must not be written again with other content.
        """
        self._hand("log_pictures", key, pictures, step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """The exported generator in ``path`` and its card, once it is final: W&B may refer to this very file."""
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
        courier = self._courier
        if courier is None or self._closed:
            return
        self._closed = True
        last = partial(self._end, status or (FAILED if failed else COMPLETED))
        if not courier.finish(last, self._patience):
            self._give_up(f"it was not done after {self._patience:g} seconds")
            courier.finish(last, self._patience)

    def _start(self, opening: Callable[[], Sink]) -> None:
        opened: Future[None] = Future()
        self._courier = Courier(self.title, self._failed)
        self._courier.give(partial(self._open, opening, opened))
        try:
            opened.result(self._patience)
        except TimeoutError:
            self._give_up(f"it did not start within {self._patience:g} seconds")

    def _open(self, opening: Callable[[], Sink], opened: Future[None]) -> None:
        try:
            self._sink = opening()
            opened.set_result(None)
        except InputError as mistake:
            self._courier.retire(lambda: None)
            opened.set_exception(mistake)
        except BaseException as error:
            self._failed(error)
            opened.set_result(None)

    def _hand(self, method: str, *arguments: Any) -> None:
        if not self.active:
            return
        try:
            arguments = copy.deepcopy(arguments)  # by the time they are read, the training has gone on
        except Exception as error:
            self._failed(error)
            return
        if self._courier.seconds > self._patience:
            self._give_up(f"it has not answered for {self._patience:g} seconds")
        elif not self._courier.give(lambda: getattr(self._sink, method)(*arguments)):
            self._give_up(f"it is {CAPACITY:,} calls behind")

    def _failed(self, error: BaseException) -> None:
        self._turn_off((str(error).strip() or type(error).__name__).splitlines()[0])

    def _give_up(self, reason: str) -> None:
        self._turn_off(reason)
        if self._abandon is not None:
            self._abandon()
        self._patience = min(self._patience, AFTERMATH)

    def _turn_off(self, reason: str) -> None:
        """Said once: on the service's thread what failed, on the caller's what hangs."""
        if self._courier.retire(partial(self._end, FAILED)):
            _log.warning("%s failed and is off for the rest of this run; metrics.csv goes on (%s).", self.title, reason)

    def _end(self, status: str) -> None:
        if self._sink is not None:
            self._sink.close(status)
