"""What one of several jobs on the same machine gets of it: a slot, its share of the cores, a GPU."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from joblib import cpu_count  # of what this process may use: a cluster gives it less than the machine has

SLOTS = ".slots"


@contextlib.contextmanager
def slot(sweep: Path, parallel: int) -> Iterator[int]:
    """A number from 0 to ``parallel`` - 1 that no other job of the sweep has; waits for one. It is free again at the
    end of this process, however that ends."""
    if parallel < 2:
        yield 0
        return
    (sweep / SLOTS).mkdir(parents=True, exist_ok=True)
    while True:
        for index in range(parallel):
            with contextlib.suppress(Timeout), FileLock(sweep / SLOTS / str(index), timeout=0):
                yield index
                return
        time.sleep(0.5)


def thread_count(parallel: int) -> int | None:
    """The share of the cores that this process may use, at least one; None where there is nothing to share."""
    return max(1, cpu_count() // parallel) if parallel > 1 else None


def gpu_of(index: int, parallel: int) -> int | None:
    """The GPU of a slot, by its place among the visible ones; None where there is none or nothing to share."""
    count = gpu_count() if parallel > 1 else 0
    return index % count if count else None


def gpu_count() -> int:
    """Visible GPUs, found without torch: it would hold memory on each of them for as long as the sweep lasts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
