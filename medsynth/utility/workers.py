"""Processes that run the jobs of a comparison, apart from this one and from each other."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from medsynth.errors import EndCode
from medsynth.runs.run_end import RunEnd, end_of, is_out_of_memory
from medsynth.utility.job import Job, Material, run_job

_SAVE_MEMORY = "the memory was not enough: choose fewer processes (jobs=), or a smaller minibatch= or width="
_KILLED = "its process was ended by the system, most likely for lack of memory: choose fewer processes (jobs=)"


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of a job.

    Attributes:
        job: the job.
        row: its row; None: it failed.
        end: how and why it failed; None: it did not.
    """

    job: Job
    row: dict[str, Any] | None = None
    end: RunEnd | None = None


class Workers:
    """Processes that compute with one material, each one job at a time; to be used in a ``with`` block.

    A job that fails, or whose process dies, ends nothing but itself: its process is replaced, and all other jobs run.

    Args:
        material: what the jobs compute with. Processes map its arrays from a file, so that they share memory.
        processes: how many; 0: the jobs run in this process, which a lack of memory ends.
    """

    def __init__(self, material: Material, processes: int):
        self.material, self.processes = material, processes
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[Future[Ended], tuple[ProcessPoolExecutor, Job]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Workers:
        if self.processes:
            self._folder = tempfile.TemporaryDirectory(prefix="medsynth-utility-")
            joblib.dump(self.material, self._path)
        return self

    def __exit__(self, *_: object) -> None:
        for executor in [*self._idle, *(executor for executor, _ in self._running.values())]:
            executor.shutdown(wait=False, kill_workers=True)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "material"

    def run(self, jobs: Sequence[Job], *, steps: int | None = None) -> Iterator[Ended]:
        """Run jobs, and yield how they ended.

        Args:
            jobs: in the order in which they are begun.
            steps: of each training; None: those of the material.
        """
        if not self.processes:
            yield from (_run(job, self.material, None, steps) for job in jobs)
            return
        threads = max(joblib.cpu_count() // self.processes, 1) if self.processes > 1 else None
        waiting = list(reversed(jobs))
        while waiting or self._running:
            while waiting and len(self._running) < self.processes:
                job = waiting.pop()
                executor = self._idle.pop() if self._idle else ProcessPoolExecutor(1)
                future = executor.submit(_in_a_process, str(self._path), job, threads, steps)
                self._running[future] = executor, job
            for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                yield self._ended(future)

    def _ended(self, future: Future[Ended]) -> Ended:
        executor, job = self._running.pop(future)
        try:
            ended = future.result()
        except BrokenProcessPool:
            executor.shutdown(wait=False, kill_workers=True)
            return Ended(job, end=RunEnd(EndCode.KILLED, _KILLED))
        self._idle.append(executor)
        return ended


def _run(job: Job, material: Material, threads: int | None, steps: int | None) -> Ended:
    if steps is not None:
        material = dataclasses.replace(material, options=dataclasses.replace(material.options, steps=steps))
    try:
        return Ended(job, row=run_job(job, material, threads))
    except Exception as error:
        end = RunEnd(EndCode.OUT_OF_MEMORY, _SAVE_MEMORY) if is_out_of_memory(error) else end_of(error)
        return Ended(job, end=end)


def _in_a_process(path: str, job: Job, threads: int | None, steps: int | None) -> Ended:
    return _run(job, _mapped(path), threads, steps)


@functools.lru_cache(maxsize=1)
def _mapped(path: str) -> Material:
    """Return the material of a file whose arrays are mapped; what is written to them stays in this process."""
    return joblib.load(path, mmap_mode="c")
