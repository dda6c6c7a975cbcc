"""Requests to stop by SIGTERM and SIGHUP: an interruption that unwinds, so that nothing half-written is left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

NUMBERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequested(KeyboardInterrupt):
    """The process was asked to stop. Like Ctrl-C, it is no ``Exception``, so that no library takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextlib.contextmanager
def stop_requests() -> Iterator[None]:
    """Raise ``StopRequested`` at SIGTERM and SIGHUP, once: further ones must not interrupt the cleaning up.

    A training replaces these handlers from its first step on. Signals that are ignored, as by nohup, stay ignored.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked process, which has nothing to clean up
            os._exit(0)
        for other in NUMBERS:
            signal.signal(other, signal.SIG_IGN)
        raise StopRequested(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NUMBERS}
    replaced = [number for number in NUMBERS if before[number] == signal.SIG_DFL]
    try:
        for number in replaced:
            signal.signal(number, stop)
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])
