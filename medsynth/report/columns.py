"""The columns of metrics.csv: which are measures, their intervals, and where the best was."""

from __future__ import annotations

import math

from medsynth.report.run_files import entry
from medsynth.report.runs import Run


def is_metric(name: str) -> bool:
    """Whether it is a measure of a validation: no end of an interval, no count."""
    apart = ("_low", "_high", "_std", "/num_real", "/num_fake")
    return name.startswith("val/") and not name.endswith(apart)


def columns_of(run: Run) -> list[str]:
    """Names of what was measured on validation images, the objective first."""
    names = [name for name in run.curves if is_metric(name)]
    return sorted(names, key=lambda name: (name != run.objective, names.index(name)))


def interval_at(run: Run, name: str, step: float | None) -> tuple[float, float] | None:
    """The ends of the 95 % interval at ``step`` images seen; None: there are none."""
    ends = []
    for end in ("low", "high"):
        steps, values = run.curves.get(f"{name}_{end}", ([], []))
        found = dict(zip(steps, values, strict=True)).get(step)
        if found is None or not math.isfinite(found):
            return None
        ends.append(found)
    return ends[0], ends[1]


def best_step(run: Run) -> int | None:
    """Images seen where the objective was best; the generator of then was kept."""
    known = entry(run.summary, "best", "images_seen")
    steps, values = run.curves.get(run.objective or "", ([], []))
    finite = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return known if isinstance(known, int) else min(finite)[1] if finite else None
