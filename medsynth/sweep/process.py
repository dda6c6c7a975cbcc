"""One training in a process of its own: its memory comes back, its crash is a reason, and nothing is left over."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medsynth.runs.parent_process import PARENT

OUTPUT = "output.log"  # all that the process prints
PROGRAM = (sys.executable, "-m", "medsynth", "train")
GRACE = 20.0  # seconds in which a process that was told to stop may write its last checkpoint and summary


@dataclass(frozen=True)
class Ended:
    """How a training's process ended. ``reason`` is one sentence; None: it succeeded."""

    exit_code: int
    seconds: float
    reason: str | None


def run_training(
    overrides: Sequence[str],
    *,
    folder: Path,
    threads: int | None = None,
    gpu: int | None = None,
    watch: Callable[[], str | None] | None = None,
    every: float = 2.0,
) -> Ended:
    """Run ``medsynth train`` with ``overrides`` in ``folder`` as a process, and wait for it.

    The process and all that it started end with it, with an interruption of the caller, and with the caller's death.

    Args:
        overrides: as typed, of the task and of Hydra; ``hydra.run.dir`` is added.
        folder: where the run lands; what the process prints is appended to ``output.log`` there.
        threads: of the CPU; None: as many as the libraries choose.
        gpu: index among those visible to this process; None: all of them.
        watch: asked every ``every`` seconds; a text ends the process and is the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (folder / OUTPUT).open("ab") as output:
        before = output.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [*PROGRAM, *overrides, f"hydra.run.dir={quoted(folder)}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(threads, gpu),
            start_new_session=True,  # a group of its own: Ctrl-C reaches us alone, and we end the group as a whole
        )
        with _ending(process):
            stopped = _wait(process, watch, every)
    seconds = time.perf_counter() - started
    code = process.returncode
    reason = stopped or (None if code == 0 else reason_of(code, (folder / OUTPUT), before))
    return Ended(code, seconds, reason)


def quoted(value: object) -> str:
    """As Hydra reads one text back, whatever commas, spaces, equal signs and brackets are in it."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(value))
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def reason_of(exit_code: int, output: Path, before: int = 0) -> str:
    """Why a process failed: the signal, or what it printed last after byte ``before`` of ``output``."""
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-exit_code).name
            return f"killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
        return f"killed by signal {-exit_code}"
    with output.open("rb") as file:
        file.seek(before)
        lines = [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    sentences = [line.partition(": error: ")[2] for line in lines if re.match(r"medsynth \w+: error: ", line)]
    if sentences:
        return sentences[-1]
    # A traceback's last line stands at the margin; what follows it there are libraries' notes about their own end.
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    return (raised or lines or [f"it ended with exit code {exit_code} and printed nothing"])[-1]


def _wait(process: subprocess.Popen, watch: Callable[[], str | None] | None, every: float) -> str | None:
    while True:
        try:
            process.wait(every if watch else None)
            return None
        except subprocess.TimeoutExpired:
            reason = watch() if watch else None
            if reason:
                return reason


@contextlib.contextmanager
def _ending(process: subprocess.Popen) -> Iterator[None]:
    """At the end nothing of the process is left, whether it ended by itself or is to be stopped now."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()  # alone: it stops in order, its helpers with it
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind, such as readers of data
        process.wait()


def _environment(threads: int | None, gpu: int | None) -> dict[str, str]:
    environment = dict(os.environ, HYDRA_FULL_ERROR="0")  # this process may have set it to see errors itself
    environment[PARENT] = str(os.getpid())
    if threads:
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if gpu is not None:
        visible = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        environment["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible else str(gpu)
    return environment
