"""The result of a comparison: values and gains with their intervals, and the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

import medsynth
from medsynth.evaluation.answers import NO, NOT_SHOWN, YES
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.answer import Comparison, answer, rule
from medsynth.utility.arms import AUGMENTED, DUPLICATED, MIXED, REAL, SYNTHETIC, Arm
from medsynth.utility.job import Job
from medsynth.utility.plan import Plan
from medsynth.utility.rows import Rows
from medsynth.utility.sets import Options, Sets
from medsynth.utility.statistics import Measured, measured
from medsynth.utility.task import Task


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


@dataclasses.dataclass
class Collection:
    """Values and gains of finished jobs, from their rows."""

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
            "better": "lower" if self.task.is_error(self.options.measure) else "higher",
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
        sign = -1 if self.task.is_error(name) else 1
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
