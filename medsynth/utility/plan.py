"""The jobs of a comparison, how long they take, and what becomes of those that fail."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from medsynth.errors import InputError
from medsynth.runs.run_end import RunEnd
from medsynth.utility.arms import Arm
from medsynth.utility.job import Job
from medsynth.utility.rows import Rows
from medsynth.utility.workers import Workers

LISTED = 3  # failed jobs that a message names
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


def seconds_for_a_job(plan: Plan, workers: Workers) -> float:
    """Return the time of a job, measured on one with a single step and one with a tenth of the steps.

    It is NaN where this job fails, which its own run will tell.
    """
    job = Job(max(plan.arms, key=lambda arm: arm.added(plan.sizes[-1])), plan.sizes[-1], plan.seeds[0])
    steps = workers.material.options.steps
    tenth = max(steps // 10, 2)
    _seconds(job, workers, 1)  # the first one loads libraries
    single = _seconds(job, workers, 1)
    return single + max(0.0, _seconds(job, workers, tenth) - single) / (tenth - 1) * (steps - 1)


def _seconds(job: Job, workers: Workers, steps: int) -> float:
    (ended,) = workers.run([job], steps=steps)
    return math.nan if ended.row is None else ended.row["seconds"]


def run_jobs(
    missing: Sequence[Job], workers: Workers, rows: Rows, *, report: Callable[[int, Job], None] | None = None
) -> None:
    """Run jobs and keep their rows as they end; one that fails is recorded, and the others run.

    Args:
        missing: the jobs.
        workers: that run them.
        rows: where their rows are kept.
        report: called after each job with the number of those that ended.

    Raises:
        InputError: jobs failed; the rows of the others are kept.
    """
    failed: list[tuple[Job, RunEnd]] = []
    for number, ended in enumerate(workers.run(missing), start=1):
        if ended.end is not None:
            rows.fail(ended.job, ended.end)
            failed.append((ended.job, ended.end))
        else:
            assert ended.row is not None
            rows.add(ended.job, ended.row)
        if report is not None:
            report(number, ended.job)
    if failed:
        named = "; ".join(f"{job.name}: {(end.message or end.code.value).rstrip('. ')}" for job, end in failed[:LISTED])
        more = f"; and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
        raise InputError(
            f"{len(failed)} of {len(missing)} trainings failed ({named}{more}). The others are done{rows.place}: "
            "type the command again, which does those that failed.",
            code=failed[0][1].code,
        )
