"""The comparison: from sets of real and generated images to gains with intervals, and an answer."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.contracts import InputError
from medsynth.utility.arms import all_arms, default_sizes, mixed_order
from medsynth.utility.job import Job, Material
from medsynth.utility.plan import Plan, run_jobs, seconds_for_a_job
from medsynth.utility.result import Collection, UtilityResult
from medsynth.utility.rows import Rows, digest
from medsynth.utility.sets import Options, Sets
from medsynth.utility.statistics import image_groups
from medsynth.utility.task import Examples, Task
from medsynth.utility.workers import Workers

ENOUGH_POOL = 10_000  # generated images, beyond which seeds share them


def compare(
    sets: Sets,
    task: Task,
    options: Options,
    *,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> UtilityResult:
    """Train networks on all arms, and compare them on the test images.

    Args:
        sets: the images.
        task: what is trained.
        options: how many networks and how.
        folder: of the rows of finished jobs, which are not repeated; None: they are not kept.
        say: called with sentences about time and progress.

    Raises:
        InputError: an option is out of range, images lack labels, or the folder has results of other options.
    """
    say = say or (lambda sentence: None)
    plan = _plan(sets, task, options)
    rows = Rows(folder, _work(sets, task, options))
    started = time.perf_counter()
    notes = list(sets.notes)
    if rows.missing(plan.jobs()):
        with Workers(prepare(sets, task, options), options.jobs) as workers:
            plan, dropped = _within_budget(plan, workers, rows, options, say)
            _run(rows.missing(plan.jobs()), workers, rows, say)
        notes += dropped
    finished = Collection(sets, task, options, plan, rows)
    return finished.collect([*notes, *_notes(sets, task, options, plan)], time.perf_counter() - started)


def run_part(
    sets: Sets, task: Task, options: Options, part: str, *, folder: Path, say: Callable[[str], None] | None = None
) -> int:
    """Train the networks of one part of a comparison, so that several machines share it; ``compare`` then collects.

    Args:
        sets: as of ``compare``.
        task: as there.
        options: as there, without a budget, which would drop others on each machine.
        part: "2/8": every eighth job, from the second one.
        folder: of the rows, which all parts share.
        say: as there.

    Returns:
        The number of jobs of all parts that are not done yet.

    Raises:
        InputError: as ``compare``, or the part is not possible.
    """
    matched = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", part)
    number, parts = (int(text) for text in matched.groups()) if matched else (1, 0)
    if number > parts:
        raise InputError(f"part={part} is not possible: give a part of several, such as part=2/8.")
    if options.budget is not None:
        raise InputError("part= and budget= do not go together: each part would drop other seeds and sizes.")
    plan = _plan(sets, task, options)
    rows = Rows(folder, _work(sets, task, options))
    missing = rows.missing(plan.jobs()[number - 1 :: parts])
    if missing:
        with Workers(prepare(sets, task, options), options.jobs) as workers:
            _run(missing, workers, rows, say or (lambda sentence: None))
    return len(rows.missing(plan.jobs()))


def _run(missing: Sequence[Job], workers: Workers, rows: Rows, say: Callable[[str], None]) -> None:
    run_jobs(missing, workers, rows, report=_progress(len(missing), say))


def _plan(sets: Sets, task: Task, options: Options) -> Plan:
    classes = _classes(sets.of("training"))
    sizes = options.sizes or default_sizes(sets.training.count, 0 if classes is None else len(np.unique(classes)))
    if min(sizes) < 2 or max(sizes) > sets.training.count:
        raise InputError(f"sizes={list(sizes)} must be from 2 to {sets.training.count}, the number of real images.")
    if options.seeds < 2:
        raise InputError(f"seeds={options.seeds} must be 2 or more: an interval over seeds needs two.")
    if options.jobs < 0:
        raise InputError(f"jobs={options.jobs} must be 0 or more.")
    if options.measure not in task.measure_names():
        raise InputError(f"measure={options.measure} is unknown: choose {', '.join(task.measure_names())}.")
    if options.worthwhile < 0:
        raise InputError(f"worthwhile={options.worthwhile:g} must be 0 or more.")
    return Plan(all_arms(options.ratios), tuple(sorted(set(sizes))), tuple(range(options.seeds)))


def _classes(targets: np.ndarray | None) -> np.ndarray | None:
    return targets if targets is not None and targets.ndim == 1 else None


def pool_size(options: Options, largest: int) -> int:
    """Return how many generated images ``largest`` real ones take: each seed has its own, or shares many."""
    each = max(round(max(options.ratios) * largest), largest)
    return min(each * options.seeds, max(each, ENOUGH_POOL))


def prepare(sets: Sets, task: Task, options: Options) -> Material:
    """Encode all images and choose the order in which the arms take them.

    Raises:
        InputError: an option is out of range, or there are too few generated images.
    """
    plan = _plan(sets, task, options)
    needed = max(max(arm.added(plan.sizes[-1]) for arm in plan.arms), plan.sizes[-1])
    if sets.synthetic.count < needed:
        raise InputError(
            f"There are {sets.synthetic.count:,} generated images, and {max(options.ratios):g} for each of "
            f"{plan.sizes[-1]:,} real ones need {needed:,}: add images, or choose smaller ratios= or sizes=."
        )
    orders = {}
    pool = mixed_order(_classes(sets.of("synthetic")), None, sets.synthetic.count, seed=-1)
    for seed in plan.seeds:
        real = mixed_order(_classes(sets.of("training")), sets.training.groups, sets.training.count, seed=seed)
        orders[seed] = real, np.roll(pool, -seed * needed)
    groups = _groups(sets)
    return Material(
        task,
        options.fit,
        Examples(task.encode(sets.training, augmented=True), sets.of("training")),
        Examples(task.encode(sets.synthetic, augmented=False), sets.of("synthetic")),
        Examples(task.encode(sets.test, augmented=False), sets.of("test")),
        groups,
        orders,
    )


def _groups(sets: Sets) -> np.ndarray:
    return image_groups(_classes(sets.of("test")), sets.test.groups, sets.test.count)


def _work(sets: Sets, task: Task, options: Options) -> dict[str, Any]:
    """Return what every row depends on."""
    sides = {side: getattr(sets, side) for side in ("training", "test", "synthetic")}
    data = {side: {"count": images.count, "content": digest(images.key)} for side, images in sides.items()}
    for side, own in data.items():
        if sets.targets is not None and (targets := sets.of(side)) is not None:
            own["targets"] = digest(np.ascontiguousarray(targets).tobytes().hex())
    return {
        **task.describe(),
        "fit": dataclasses.asdict(options.fit),
        "most_per_real": max(options.ratios),
        "largest": max(options.sizes or [sets.training.count]),
        "groups": int(_groups(sets).max()) + 1,
        "data": data,
    }


def _within_budget(
    plan: Plan, workers: Workers, rows: Rows, options: Options, say: Callable[[str], None]
) -> tuple[Plan, list[str]]:
    """Say how long the plan takes; return the plan that fits the budget, and a sentence about what was dropped."""
    seconds = seconds_for_a_job(plan, workers)
    missing, jobs = len(rows.missing(plan.jobs())), max(options.jobs, 1)
    if math.isnan(seconds):
        say(f"{missing:,} trainings are to be done; how long they take is not known, since the one that tells failed.")
        return plan, []
    say(
        f"{missing:,} of {len(plan.jobs()):,} trainings are to be done, about {seconds:.2g} s each: "
        f"{_minutes(missing * seconds / jobs)} with jobs={options.jobs}."
    )
    if options.budget is None or missing * seconds / jobs <= 60 * options.budget:
        return plan, []
    fewer = plan.within(len(plan.jobs()) - missing + int(60 * options.budget * jobs / seconds))
    left = _minutes(len(rows.missing(fewer.jobs())) * seconds / jobs)
    dropped = (
        f"budget={options.budget:g} minutes: {len(fewer.seeds)} of {len(plan.seeds)} seeds and sizes "
        f"{_listed(fewer.sizes)} of {_listed(plan.sizes)}, in {left}."
    )
    say(dropped)
    return fewer, [dropped]


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _progress(count: int, say: Callable[[str], None]) -> Callable[[int, Job], None]:
    """Return a report of a training's progress that speaks about ten times."""
    every = max(count // 10, 1)

    def report(number: int, job: Job) -> None:
        if number % every == 0:
            say(f"{number:,} of {count:,} trainings done.")

    return report


def _notes(sets: Sets, task: Task, options: Options, plan: Plan) -> list[str]:
    notes = []
    if plan.sizes[0] < sets.training.count:
        notes.append(
            f"The generator saw all of its training images: with fewer than {sets.training.count:,} real ones, "
            "generated images carry what the others show, so that a gain there may be that of the images left out. "
            "The answer is for the largest size."
        )
    if plan.sizes[-1] < sets.training.count:
        notes.append("No size has all real images, so that the answer, too, may be that of the images left out.")
    needed = max(max(arm.added(plan.sizes[-1]) for arm in plan.arms), plan.sizes[-1])
    if sets.synthetic.count < needed * len(plan.seeds):
        notes.append(
            "Seeds share generated images, since there are fewer than all of them take: the intervals hold for these "
            "images and not for others of the same generator."
        )
    if sets.test.groups is None:
        notes.append("The patients of the test images are not known: intervals take each image as independent.")
    elif len(np.unique(sets.test.groups)) < 10:
        notes.append(
            f"The test images are of {len(np.unique(sets.test.groups))} patients: the intervals are uncertain."
        )
    if sets.of("synthetic") is None:
        notes.append(
            "Generated images come without key points or label maps: a network trained on the real images of the same "
            "arm gives them (pseudo-labels), which takes as many steps again and brings no knowledge of them that the "
            "real images do not have."
        )
    notes.append(
        "The intervals hold for these training images and this generator, over seeds and other test images; another "
        "training of the generator may differ by more."
    )
    return notes
