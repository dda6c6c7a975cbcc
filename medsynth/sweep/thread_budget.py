"""Division of a machine among parallel jobs: a slot, a number of threads and a GPU for each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from joblib import cpu_count  # cores that this process may use: on a cluster fewer than the machine has

SLOTS = ".slots"


@contextlib.contextmanager
def slot(sweep: Path, parallel: int) -> Iterator[int]:
    """Wait for a number from 0 to ``parallel`` - 1 that no other job of the sweep has, and hold it during the block.

    It is free again when this process ends, however it ends.
    """
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
    """Return the number of threads of each of ``parallel`` jobs, at least 1; None for a single job: no limit."""
    return max(1, cpu_count() // parallel) if parallel > 1 else None


def gpu_of(index: int, parallel: int) -> int | None:
    """Return the GPU of slot ``index``, as a position among the visible ones; None: no GPU, or a single job."""
    count = gpu_count() if parallel > 1 else 0
    return index % count if count else None


def gpu_count() -> int:
    """Count the visible GPUs without importing torch, which would occupy memory on each GPU during the whole sweep."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
