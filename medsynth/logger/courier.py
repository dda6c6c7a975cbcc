"""Calls made one after another on a thread of their own, so that one that hangs holds nobody up."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

Call = Callable[[], None]
CAPACITY = 1000  # calls that may wait


class Courier:
    """Makes the calls that it is given, in their order, until it is told to end.

    The thread is a daemon: a call that never returns does not keep the process from ending. Processes that are forked
    from this one have no such thread and must not give calls.

    Args:
        name: of the thread.
        failed: is told, on that thread, what a call raised.
    """

    def __init__(self, name: str, failed: Callable[[BaseException], None]):
        self.retired = False
        self._failed = failed
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()  # None: the end
        self._lock = threading.Lock()  # between those who give and those who retire; never held during a call
        self._since: float | None = None
        self._thread = threading.Thread(target=self._make_calls, name=name, daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """How long the call that is being made has taken so far; 0 where there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def give(self, call: Call) -> bool:
        """Have ``call`` made after those before it, without waiting; False: too many wait already."""
        with self._lock:
            if self._calls.qsize() >= CAPACITY:
                return False
            if not self.retired:
                self._calls.put(call)
            return True

    def retire(self, last: Call) -> bool:
        """Forget the calls that wait, make only ``last``, then end; False, and nothing, where it was told so before."""
        with self._lock:
            if self.retired:
                return False
            self.retired = True
            with contextlib.suppress(queue.Empty):  # the thread takes some meanwhile
                while True:
                    self._calls.get_nowait()
            self._end_with(last)
            return True

    def finish(self, last: Call, seconds: float) -> bool:
        """Have all calls made, then ``last``, then end; whether that came to pass within ``seconds``."""
        with self._lock:
            if not self.retired:
                self._end_with(last)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _end_with(self, last: Call) -> None:
        self._calls.put(last)
        self._calls.put(None)

    def _make_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            self._since = time.monotonic()
            try:
                call()
            except BaseException as error:  # SystemExit too, which W&B raises when its service ended badly
                self._failed(error)
            self._since = None
