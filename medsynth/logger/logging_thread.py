"""A thread that makes the calls to a logging service, so that one that hangs does not block the training."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

Call = Callable[[], None]
CAPACITY = 1000  # calls that may wait


class LoggingThread:
    """A thread that makes the calls it is given, in their order, until it is ended.

    The thread is a daemon: a call that never returns does not keep the process from exiting. Processes that are forked
    from this one have no such thread and must not submit calls.

    Args:
        name: name of the thread.
        on_error: called on that thread with the error that a call raised.
    """

    def __init__(self, name: str, on_error: Callable[[BaseException], None]):
        self.ended = False
        self._on_error = on_error
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()  # None: the end
        self._lock = threading.Lock()  # between those who submit calls and those who end; never held during a call
        self._call_started: float | None = None
        self._thread = threading.Thread(target=self._make_calls, name=name, daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Seconds that the current call has taken so far; 0 if there is none."""
        started = self._call_started
        return 0.0 if started is None else time.monotonic() - started

    def submit(self, call: Call) -> bool:
        """Queue ``call`` without waiting for it.

        Returns:
            False if too many calls wait already.
        """
        with self._lock:
            if self._calls.qsize() >= CAPACITY:
                return False
            if not self.ended:
                self._calls.put(call)
            return True

    def cancel(self, last: Call) -> bool:
        """Drop the calls that wait, make only ``last``, then end, without waiting for it.

        Returns:
            False if the thread was ended before; ``last`` is then not called.
        """
        with self._lock:
            if self.ended:
                return False
            self.ended = True
            with contextlib.suppress(queue.Empty):  # the thread takes some meanwhile
                while True:
                    self._calls.get_nowait()
            self._end_with(last)
            return True

    def finish(self, last: Call, seconds: float) -> bool:
        """Make all calls that wait, then ``last``, then end; wait up to ``seconds`` for that.

        Returns:
            True if the thread has ended within ``seconds``.
        """
        with self._lock:
            if not self.ended:
                self._end_with(last)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _end_with(self, last: Call) -> None:
        self._calls.put(last)
        self._calls.put(None)

    def _make_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            self._call_started = time.monotonic()
            try:
                call()
            except BaseException as error:  # SystemExit too, which W&B raises when its service ended badly
                self._on_error(error)
            self._call_started = None
