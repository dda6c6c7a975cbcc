"""The comparison: from sets of real and generated images to gains with intervals, and an answer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medsynth
from medsynth.contracts import InputError
from medsynth.evaluation.answers import NO, NOT_SHOWN, YES
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.answer import Comparison, answer, rule
from medsynth.utility.arms import (
    AUGMENTED,
    DUPLICATED,
    MIXED,
    REAL,
    SYNTHETIC,
    Arm,
    all_arms,
    default_sizes,
    mixed_order,
)
from medsynth.utility.fit import Fit
from medsynth.utility.job import Job, Material
from medsynth.utility.plan import Plan, run_jobs, seconds_for_a_job
from medsynth.utility.rows import Rows, digest
from medsynth.utility.statistics import Measured, image_groups, measured
from medsynth.utility.task import Examples, Task

RATIOS = (0.25, 1.0, 5.0)
ENOUGH_POOL = 10_000  # generated images, beyond which seeds share them


@dataclasses.dataclass(frozen=True)
class Sets:
    """The images of a comparison.

    Attributes:
        training: real images, with labels or ``points``.
        test: other real images; of other patients where these are known.
        synthetic: generated images; with labels, unless the task labels them itself.
        sources: descriptions of the three for people.
        targets: of the three; None: their labels.
        notes: sentences about what may bias the results.
    """

    training: ImageSet
    test: ImageSet
    synthetic: ImageSet
    sources: tuple[str, str, str] = ("training images", "test images", "generated images")
    targets: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
    notes: tuple[str, ...] = ()

    def of(self, side: str) -> np.ndarray | None:
        """Return the targets of ``training``, ``test`` or ``synthetic``."""
        images: ImageSet = getattr(self, side)
        if self.targets is None:
            return images.labels
        return self.targets[("training", "test", "synthetic").index(side)]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a comparison.

    Attributes:
        fit: of each training.
        ratios: generated images for each real one.
        sizes: of the real set; None: four, up to all.
        seeds: how many; 2 or more.
        measure: which decides.
        worthwhile: the smallest gain worth having.
        jobs: parallel processes.
        budget: minutes that the jobs may take; None: as many as they need.
    """

    fit: Fit = dataclasses.field(default_factory=Fit)
    ratios: tuple[float, ...] = RATIOS
    sizes: tuple[int, ...] | None = None
    seeds: int = 5
    measure: str = "auc"
    worthwhile: float = 0.01
    jobs: int = 1
    budget: float | None = None


@dataclasses.dataclass(frozen=True)
class UtilityResult:
    """The answer of a comparison with all its values; ``to_dict`` describes them.

    Attributes:
        answer: ``yes``, ``no`` or ``not shown``.
        rule: by which it was given.
        reasons: one sentence for each arm with generated images.
        record: all else.
    """

    answer: str
    rule: str
    reasons: tuple[str, ...]
    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``medsynth utility`` writes them.

        ``format`` is 1. ``answer``, ``rule``, ``reasons`` and ``sentence`` are for all who ask whether the images are
        useful. ``task``, ``measure`` (that decides), ``better`` (``higher`` or ``lower``), ``worthwhile``, ``size``
        (real images that the answer is for), ``sizes``, ``seeds``, ``ratios``, ``fit``, ``network`` say what was done;
        ``training``, ``test``, ``synthetic`` have ``source``, ``count`` and, where known, ``patients``.

        ``arms``: for each arm and size its ``arm``, ``label``, ``size``, ``count`` (of training images), ``measures``,
        each with ``value``, ``low``, ``high``. ``differences``: for each arm with generated images, control, size and
        measure the ``gain`` of the ``arm`` over the ``control`` with ``low``, ``high`` and ``p``, ``arm_value``,
        ``control_value``, the numbers of images ``arm_count``, ``control_count``, ``test_images``, of ``seeds``, and
        ``p_holm``, which the deciding measure has at the largest size. A gain above 0 is better, in errors too.
        ``on_synthetic``: networks trained on real images alone, measured on generated ones, for each size.
        ``notes``: sentences about what the values are to be read with.
        """
        return {
            "format": 1,
            "medsynth": medsynth.__version__,
            "answer": self.answer,
            "rule": self.rule,
            "reasons": list(self.reasons),
            **self.record,
        }


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
        material = prepare(sets, task, options)
        plan, dropped = _within_budget(plan, material, rows, options, say)
        notes += dropped
        missing = rows.missing(plan.jobs())
        run_jobs(missing, material, rows, processes=options.jobs, report=_progress(len(missing), say))
    result = _Result(sets, task, options, plan, rows)
    return result.collect([*notes, *_notes(sets, task, options, plan)], time.perf_counter() - started)


def _plan(sets: Sets, task: Task, options: Options) -> Plan:
    classes = _classes(sets.of("training"))
    sizes = options.sizes or default_sizes(sets.training.count, 0 if classes is None else len(np.unique(classes)))
    if min(sizes) < 2 or max(sizes) > sets.training.count:
        raise InputError(f"sizes={list(sizes)} must be from 2 to {sets.training.count}, the number of real images.")
    if options.seeds < 2:
        raise InputError(f"seeds={options.seeds} must be 2 or more: an interval over seeds needs two.")
    if options.jobs < 1:
        raise InputError(f"jobs={options.jobs} must be 1 or more.")
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
    return {
        **task.describe(),
        "fit": dataclasses.asdict(options.fit),
        "most_per_real": max(options.ratios),
        "largest": max(options.sizes or [sets.training.count]),
        "groups": int(_groups(sets).max()) + 1,
        "data": data,
    }


def _within_budget(
    plan: Plan, material: Material, rows: Rows, options: Options, say: Callable[[str], None]
) -> tuple[Plan, list[str]]:
    """Say how long the plan takes; return the plan that fits the budget, and a sentence about what was dropped."""
    seconds = seconds_for_a_job(plan, material)
    missing = len(rows.missing(plan.jobs()))
    say(
        f"{missing:,} of {len(plan.jobs()):,} trainings are to be done, about {seconds:.2g} s each: "
        f"{_minutes(missing * seconds / options.jobs)} with jobs={options.jobs}."
    )
    if options.budget is None or missing * seconds / options.jobs <= 60 * options.budget:
        return plan, []
    fewer = plan.within(len(plan.jobs()) - missing + int(60 * options.budget * options.jobs / seconds))
    left = _minutes(len(rows.missing(fewer.jobs())) * seconds / options.jobs)
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
            "Generated images have no known key points: a network trained on the real images of the same arm places "
            "them (pseudo-labels), which takes as many steps again and adds no information about their position."
        )
    notes.append(
        "The intervals hold for these training images and this generator, over seeds and other test images; another "
        "training of the generator may differ by more."
    )
    return notes


@dataclasses.dataclass
class _Result:
    """Values and gains from rows."""

    sets: Sets
    task: Task
    options: Options
    plan: Plan
    rows: Rows

    def collect(self, notes: Sequence[str], seconds: float) -> UtilityResult:
        """Return the result of all rows of the plan."""
        first = self._rows(Arm(REAL), self.plan.sizes[-1])[0]["values"]
        largest = self.plan.sizes[-1]
        mixed = [arm for arm in self.plan.arms if arm.kind == MIXED]
        comparisons = [
            Comparison(
                arm.label,
                {c.label: self._gain(arm, c, largest, self.options.measure) for c in self._controls(arm)},
            )
            for arm in mixed
        ]
        said, reasons, corrected = answer(comparisons, self.options.worthwhile)
        after = {arm.name: p for arm, p in zip(mixed, corrected, strict=True)}
        measures = list(first)
        record = {
            "sentence": _sentence(said, comparisons, corrected, self.options.measure, largest),
            "task": self.task.name,
            "measure": self.options.measure,
            "better": "lower" if self.task.lower else "higher",
            "worthwhile": self.options.worthwhile,
            "size": largest,
            "sizes": list(self.plan.sizes),
            "seeds": len(self.plan.seeds),
            "ratios": sorted(set(self.options.ratios)),
            "fit": dataclasses.asdict(self.options.fit),
            "network": self.task.describe(),
            **{side: self._side(side, number) for number, side in enumerate(("training", "test", "synthetic"))},
            "arms": [self._arm(arm, size, measures) for size in self.plan.sizes for arm in self.plan.arms],
            "differences": [
                self._difference(arm, control, size, name, after)
                for size in self.plan.sizes
                for arm in (*mixed, Arm(SYNTHETIC))
                for control in self._controls(arm)
                for name in measures
            ],
            "on_synthetic": [part for size in self.plan.sizes if (part := self._on_synthetic(size))],
            "notes": list(notes),
            "seconds": seconds,
        }
        return UtilityResult(said, rule(self.options.measure, self.options.worthwhile), tuple(reasons), record)

    def _controls(self, arm: Arm) -> list[Arm]:
        """Return what an arm is compared to: its duplicates, real and augmented images; for synthetic only: real."""
        if arm.kind == SYNTHETIC:
            return [Arm(REAL)]
        return [Arm(DUPLICATED, arm.ratio), Arm(REAL), Arm(AUGMENTED)]

    def _rows(self, arm: Arm, size: int) -> list[dict[str, Any]]:
        rows = [self.rows.get(Job(arm, size, seed)) for seed in self.plan.seeds]
        assert all(rows), "all jobs have run"
        return [row for row in rows if row]

    def _table(self, arm: Arm, size: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of seeds (S,), and without each group of test images (S, G)."""
        rows = self._rows(arm, size)
        return np.array([row["values"][name] for row in rows]), np.array([row["without"][name] for row in rows])

    def _gain(self, arm: Arm, control: Arm, size: int, name: str) -> Measured:
        (values, without), (other, other_without) = self._table(arm, size, name), self._table(control, size, name)
        sign = -1 if self.task.lower else 1
        return measured(sign * (values - other), sign * (without - other_without))

    def _arm(self, arm: Arm, size: int, measures: Sequence[str]) -> dict[str, Any]:
        values = {name: measured(*self._table(arm, size, name)) for name in measures}
        shown = {name: {"value": m.value, "low": m.low, "high": m.high} for name, m in values.items()}
        count = self._rows(arm, size)[0]["count"]
        return {"arm": arm.name, "label": arm.label, "size": size, "count": count, "measures": shown}

    def _difference(self, arm: Arm, control: Arm, size: int, name: str, after: dict[str, float]) -> dict[str, Any]:
        gain = self._gain(arm, control, size, name)
        decides = name == self.options.measure and size == self.plan.sizes[-1] and arm.name in after
        return {
            "arm": arm.name,
            "control": control.name,
            "size": size,
            "measure": name,
            "gain": gain.value,
            "low": gain.low,
            "high": gain.high,
            "p": gain.p,
            **({"p_holm": after[arm.name]} if decides else {}),
            "arm_value": float(self._table(arm, size, name)[0].mean()),
            "control_value": float(self._table(control, size, name)[0].mean()),
            "arm_count": self._rows(arm, size)[0]["count"],
            "control_count": self._rows(control, size)[0]["count"],
            "test_images": self.sets.test.count,
            "seeds": len(self.plan.seeds),
        }

    def _on_synthetic(self, size: int) -> dict[str, Any] | None:
        rows = [row["on_synthetic"] for row in self._rows(Arm(REAL), size) if "on_synthetic" in row]
        if not rows:
            return None
        tables = {
            name: ([r["values"][name] for r in rows], [r["without"][name] for r in rows]) for name in rows[0]["values"]
        }
        values = {name: measured(np.array(v), np.array(w)) for name, (v, w) in tables.items()}
        return {
            "size": size,
            "measures": {n: {"value": m.value, "low": m.low, "high": m.high} for n, m in values.items()},
        }

    def _side(self, side: str, number: int) -> dict[str, Any]:
        images: ImageSet = getattr(self.sets, side)
        patients = {} if images.groups is None else {"patients": len(np.unique(images.groups))}
        return {"source": self.sets.sources[number], "count": images.count, **patients}


def _sentence(said: str, comparisons: Sequence[Comparison], corrected: Sequence[float], measure: str, size: int) -> str:
    least = [min(gain.value for gain in comparison.gains.values()) for comparison in comparisons]
    best = int(np.argmin(corrected) if said == YES else np.argmax(least))
    name, gain = min(comparisons[best].gains.items(), key=lambda item: item[1].value)
    start = {
        YES: f"Generated images help a network that has {size:,} real ones",
        NO: f"Generated images bring no gain worth having to a network that has {size:,} real ones",
        NOT_SHOWN: f"It is not shown that generated images help a network that has {size:,} real ones",
    }[said]
    return (
        f"{start}: the gain in {measure} of {comparisons[best].label} over {name}, its best control, is "
        f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})."
    )
