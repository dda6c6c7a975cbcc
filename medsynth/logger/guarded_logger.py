"""A logger for a service such as W&B whose failures never stop or delay a training."""

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
from pytorch_lightning.utilities import rank_zero_only

from medsynth.errors import InputError
from medsynth.logger.logging_thread import CAPACITY, LoggingThread
from medsynth.runs.status import COMPLETED, FAILED

GRACE = 3.0  # seconds that the end of a run waits for a service that was abandoned
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """The calls that W&B, TensorBoard and MLflow each implement; made on one thread, may raise or never return."""

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        """Add nested ``parameters`` to the description of the run."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log values at ``step`` real images seen."""

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Log image files by title, at ``step`` real images seen."""

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """Log the exported generator with its model card."""

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Log values of the run as a whole."""

    def log_finding(self, finding: Mapping[str, Any], text: str) -> None:
        """Log a finding of the doctor: ``name``, ``onset``, ``last``, ... and its words."""

    def close(self, status: str) -> None:
        """End the run; ``status`` is one of ``runs.status.STATUSES``."""


class GuardedLogger(Logger):
    """A logger that passes everything to a sink until the sink fails or hangs, then warns once and is turned off.

    The sink is opened, called and closed on a thread of its own, in order: only the start and the end of a run wait for
    it. In a training by several processes only the first one logs.

    Args:
        title: name of the service, for messages.
        open_sink: starts the service's run. An ``InputError`` that it raises is passed on, since the user can correct
            the option; other errors turn the logger off.
        patience: seconds to wait for the start, for each call, and for the end with all calls that still wait.
        abandon: ends what a service that hangs would leave behind; must not wait for it.

    Raises:
        InputError: ``open_sink`` raised it.
    """

    def __init__(
        self,
        title: str,
        open_sink: Callable[[], Sink],
        *,
        patience: float = 120.0,
        abandon: Callable[[], None] | None = None,
    ):
        super().__init__()
        self.title = title
        self._patience, self._abandon = patience, abandon
        self._sink: Sink | None = None
        self._thread: LoggingThread | None = None
        self._closed = False
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._start(open_sink)

    @property
    def name(self) -> str:
        """Name of the service, for Lightning."""
        return self.title

    @property
    def version(self) -> str:
        """Empty: Lightning's versions are not used."""
        return ""

    @property
    def active(self) -> bool:
        """True while the service accepts values, as far as is known."""
        return self._thread is not None and not self._closed and not self._thread.ended

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Add ``params`` to the description of the run."""
        parameters = vars(params) if isinstance(params, Namespace) else params
        self._submit("log_hyperparams", parameters)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at ``step`` real images seen."""
        self._submit("log_metrics", metrics, step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Log image files by title, at ``step`` real images seen.

        The files are read later and not copied: they must not be rewritten with other content.
        """
        self._submit("log_pictures", key, pictures, step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """Log the exported generator in ``path``, once it is final (W&B may refer to this very file), and its card."""
        self._submit("log_generator", path, card)

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Log values of the run as a whole, such as its best objective or those of an evaluation."""
        self._submit("log_summary", values)

    def log_finding(self, finding: Mapping[str, Any], text: str) -> None:
        """Log a finding of the doctor, as a record and in words."""
        self._submit("log_finding", finding, text)

    def close(self, *, failed: bool, status: str | None = None) -> None:
        """End the service's run, without which the next job of the same process would write into this one.

        Args:
            failed: True if the run did not complete.
            status: one of ``runs.status.STATUSES``; None: completed or failed, by ``failed``.
        """
        thread = self._thread
        if thread is None or self._closed:
            return
        self._closed = True
        last = partial(self._end, status or (FAILED if failed else COMPLETED))
        if not thread.finish(last, self._patience):
            self._give_up(thread, f"it did not finish within {self._patience:g} seconds")
            thread.finish(last, self._patience)

    def _start(self, open_sink: Callable[[], Sink]) -> None:
        opened: Future[None] = Future()
        self._thread = thread = LoggingThread(self.title, self._failed)
        thread.submit(partial(self._open, thread, open_sink, opened))
        try:
            opened.result(self._patience)
        except TimeoutError:
            self._give_up(thread, f"it did not start within {self._patience:g} seconds")

    def _open(self, thread: LoggingThread, open_sink: Callable[[], Sink], opened: Future[None]) -> None:
        try:
            self._sink = open_sink()
            opened.set_result(None)
        except InputError as error:
            thread.cancel(lambda: None)
            opened.set_exception(error)
        except BaseException as error:
            self._failed(error)
            opened.set_result(None)

    def _submit(self, method: str, *arguments: Any) -> None:
        thread = self._thread
        if thread is None or not self.active:
            return
        try:
            arguments = copy.deepcopy(arguments)  # by the time they are read, the training has changed them
        except Exception as error:
            self._failed(error)
            return
        if thread.seconds > self._patience:
            self._give_up(thread, f"it has not answered for {self._patience:g} seconds")
        elif not thread.submit(lambda: getattr(self._sink, method)(*arguments)):
            self._give_up(thread, f"it is {CAPACITY:,} calls behind")

    def _failed(self, error: BaseException) -> None:
        if self._thread is not None:
            self._turn_off(self._thread, (str(error).strip() or type(error).__name__).splitlines()[0])

    def _give_up(self, thread: LoggingThread, reason: str) -> None:
        self._turn_off(thread, reason)
        if self._abandon is not None:
            self._abandon()
        self._patience = min(self._patience, GRACE)

    def _turn_off(self, thread: LoggingThread, reason: str) -> None:
        """Drop all further calls and warn, once: errors come from the service's thread, timeouts from the caller's."""
        if thread.cancel(partial(self._end, FAILED)):
            _log.warning(
                "%s failed and is off for the rest of this run; metrics.csv is still written (%s).", self.title, reason
            )

    def _end(self, status: str) -> None:
        if self._sink is not None:
            self._sink.close(status)
