"""The jobs of a comparison, how long they take, and how they run in parallel processes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from medsynth.errors import EndCode, InputError
from medsynth.utility.arms import Arm
from medsynth.utility.job import Job, Material, run_job
from medsynth.utility.rows import Rows

FEWEST_SEEDS = 2  # an interval needs two


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes and seeds that are run, with all arms.

    Attributes:
        arms: of the comparison.
        sizes: of the real set, ascending; the last one is what the answer is given for.
        seeds: of initial weights, batches, subsets and generated images.
    """

    arms: tuple[Arm, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]

    def jobs(self) -> list[Job]:
        """Return all jobs, those of the largest size and of the first seeds first."""
        return [Job(arm, size, seed) for size in reversed(self.sizes) for seed in self.seeds for arm in self.arms]

    def within(self, most: int) -> Plan:
        """Return a plan of at most ``most`` jobs, if that is possible: fewer seeds and fewer sizes, evenly.

        The largest size and two seeds stay.
        """
        plan, seeds, sizes = self, len(self.seeds), len(self.sizes)
        while len(plan.jobs()) > most:
            spare_seeds, spare_sizes = len(plan.seeds) - FEWEST_SEEDS, len(plan.sizes) - 1
            if spare_seeds <= 0 and spare_sizes <= 0:
                return plan
            fewer_seeds = spare_seeds * (sizes - 1) >= spare_sizes * (seeds - FEWEST_SEEDS) and spare_seeds > 0
            if fewer_seeds or spare_sizes <= 0:
                plan = dataclasses.replace(plan, seeds=plan.seeds[:-1])
            else:  # every second one from above, so that the curve keeps its ends as long as possible
                dropped = max(len(plan.sizes) - 2, 0)
                plan = dataclasses.replace(plan, sizes=plan.sizes[:dropped] + plan.sizes[dropped + 1 :])
        return plan


def seconds_for_a_job(plan: Plan, material: Material) -> float:
    """Return the time of a job, measured on one with a single step and one with a tenth of the steps."""
    job = Job(max(plan.arms, key=lambda arm: arm.added(plan.sizes[-1])), plan.sizes[-1], plan.seeds[0])
    steps = material.options.steps
    tenth = max(steps // 10, 2)
    _seconds(job, material, 1)  # the first one loads libraries
    single = _seconds(job, material, 1)
    return single + max(_seconds(job, material, tenth) - single, 0) / (tenth - 1) * (steps - 1)


def _seconds(job: Job, material: Material, steps: int) -> float:
    started = time.perf_counter()
    run_job(job, dataclasses.replace(material, options=dataclasses.replace(material.options, steps=steps)))
    return time.perf_counter() - started


def run_jobs(
    missing: Sequence[Job],
    material: Material,
    rows: Rows,
    *,
    processes: int = 1,
    report: Callable[[int, Job], None] | None = None,
) -> None:
    """Run jobs and keep their rows as they finish.

    Args:
        missing: the jobs.
        material: what they compute with.
        rows: where their rows are kept.
        processes: parallel ones, isolated from this process; 1: the jobs run in this process.
        report: called after each job with the number of finished ones.

    Raises:
        InputError: a process was killed; the rows of finished jobs are kept.
    """
    threads = max(cpu_count() // processes, 1) if processes > 1 else None
    parallel = Parallel(n_jobs=processes, return_as="generator_unordered", max_nbytes="1M", mmap_mode="r")
    finished: Any = parallel(delayed(_run)(job, material, threads) for job in missing)
    try:
        for number, (job, row) in enumerate(finished, start=1):
            rows.add(job, row)
            if report is not None:
                report(number, job)
    except TerminatedWorkerError as error:
        raise InputError(
            "A training's process was ended by the system, most likely for lack of memory: choose fewer processes "
            "(jobs=) and type the command again, which resumes.",
            code=EndCode.OUT_OF_MEMORY,
        ) from error


def _run(job: Job, material: Material, threads: int | None) -> tuple[Job, dict]:
    return job, run_job(job, material, threads)
