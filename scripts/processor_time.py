"""Programs that are stopped in order when they have used their processor time, on a shared Linux machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

_CLOCK = os.sysconf("SC_CLK_TCK")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_for(command: Sequence[str], seconds: float, *, log: IO[Any] | None = None) -> None:
    """Run a command with one thread, and ask it to stop when it has used ``seconds`` of processor time.

    ``log``: an open file for what it prints; None: where this program prints.
    """
    process = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, stdout=log, stderr=log)
    while process.poll() is None and _used_seconds(process.pid) < seconds:
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait()


def _used_seconds(process: int) -> float:
    """Return the processor time of a process and its children, user and system."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _CLOCK
