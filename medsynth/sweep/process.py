"""One training in a process of its own: its memory is freed, its end is a record, and no process is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medsynth.configuration.override_text import quoted
from medsynth.runs.layout import SUMMARY
from medsynth.runs.parent_process import PARENT
from medsynth.runs.run_end import RUN_END, RunEnd, end_of_silent_process, read_run_end
from medsynth.runs.status import COMPLETED

OUTPUT = "output.log"  # all that the process prints, for people: programs read its RunEnd
_END = "run_end.json"  # the process's RunEnd; removed when it has been read
PROGRAM = (sys.executable, "-m", "medsynth", "train")
GRACE = 20.0  # seconds in which a process that is stopped may write its last checkpoint and summary


@dataclass(frozen=True)
class Ended:
    """The end of a training's process; ``exit_code`` is as ``subprocess`` has it, negative for a signal."""

    exit_code: int
    seconds: float
    end: RunEnd


def run_training(
    overrides: Sequence[str],
    *,
    folder: Path,
    threads: int | None = None,
    gpu: int | None = None,
    watch: Callable[[], RunEnd | None] | None = None,
    every: float = 2.0,
) -> Ended:
    """Run ``medsynth train`` with ``overrides`` in ``folder`` as a process, and wait for its end.

    No process is left behind: those that the training has started are ended with it, and all of them with the caller,
    whether it is interrupted or killed.

    Args:
        overrides: arguments of the command; ``hydra.run.dir`` is added.
        folder: of the run; the output of the process is appended to ``output.log`` there.
        threads: CPU threads; None: as many as the libraries choose.
        gpu: index among the GPUs visible to this process; None: all of them.
        watch: called while the process runs; when it returns a ``RunEnd``, the process is stopped and ends by that.
        every: seconds between two calls of ``watch``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _END).unlink(missing_ok=True)  # of an attempt that was killed with its sweep
    started = time.perf_counter()
    with (folder / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            [*PROGRAM, *overrides, f"hydra.run.dir={quoted(folder)}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(threads, gpu) | {RUN_END: str((folder / _END).absolute())},
            start_new_session=True,  # a process group: Ctrl-C reaches only this process, which ends the group
        )
        with _ending(process):
            stopped = _wait(process, watch, every)
    seconds = time.perf_counter() - started
    return Ended(process.returncode, seconds, _end(folder, process.returncode, stopped))


def _end(folder: Path, exit_code: int, stopped: RunEnd | None) -> RunEnd:
    """Return the end of a process in ``folder`` that ``stopped`` stopped, or that ended by itself (None)."""
    own = read_run_end(folder / _END) or read_run_end(folder / SUMMARY)
    (folder / _END).unlink(missing_ok=True)
    if own is not None and own.status == COMPLETED:  # it was done before it could be stopped
        return own
    return stopped or own or end_of_silent_process(exit_code)


def _wait(process: subprocess.Popen, watch: Callable[[], RunEnd | None] | None, every: float) -> RunEnd | None:
    while True:
        try:
            process.wait(every if watch else None)
            return None
        except subprocess.TimeoutExpired:
            stopped = watch() if watch else None
            if stopped is not None:
                return stopped


@contextlib.contextmanager
def _ending(process: subprocess.Popen) -> Iterator[None]:
    """Stop the process if it still runs at the end of the block, and whatever it has started."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()  # it alone: it stops its own helpers in order
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # processes that it has left behind, such as data loaders
        process.wait()


def _environment(threads: int | None, gpu: int | None) -> dict[str, str]:
    environment = dict(os.environ, HYDRA_FULL_ERROR="0")  # this process has set it, to see errors itself
    environment[PARENT] = str(os.getpid())
    if threads:
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if gpu is not None:
        visible = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        environment["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible else str(gpu)
    return environment
