"""A process that ends when the one that started it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "MEDSYNTH_PARENT"  # in the environment: the process id of the one that waits
_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Have this process told to stop when the one that waits for it dies. Linux alone can do this.

    The process id of the one that waits is in the environment variable ``PARENT``.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    die_with_parent(signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before this request
        sys.exit("The process that started this training is gone.")


def die_with_parent(number: int) -> None:
    """Have the system send this process the signal ``number`` when its parent dies. Linux alone can do this."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
