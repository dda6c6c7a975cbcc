"""Signals that ask a run to stop, and whether SLURM is to start the job again."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType

_log = logging.getLogger(__name__)
# USR1 is SLURM's, as `sbatch --signal=USR1@60` asks; USR2 submitit has SLURM send, which then queues the job by itself.
# Windows has neither.
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_SAME_REQUEST = 2.0  # seconds: a terminal, SLURM and a parent process may each pass on the same request


class RunStopped(SystemExit):
    """Ends a training that was asked to stop, its checkpoint written. ``requeue``: SLURM is to start the job again."""

    def __init__(self, *, requeue: bool):
        super().__init__()
        self.requeue = requeue


class StopSignals:
    """Remembers that the run was asked to stop.

    Attributes:
        patient: True: the first signal is only remembered, since ``requested`` is read soon. Otherwise it ends the run
            at once, as does a second one after ``_SAME_REQUEST`` seconds.
        requeue: SLURM is to start the job again.
    """

    def __init__(self) -> None:
        self.patient = False
        self.requeue = False
        self._since: float | None = None

    @property
    def requested(self) -> bool:
        """True once a signal has arrived."""
        return self._since is not None

    def listen(self) -> None:
        """Replace all handlers, Lightning's too, which would end the run on their own.

        Lightning puts the earlier handlers back when the fit is over. Outside the main thread there are no signals.
        """
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self.requeue = number == getattr(signal, "SIGUSR1", None)
            if self.patient:
                return
        elif now - self._since < _SAME_REQUEST:
            return
        raise KeyboardInterrupt
