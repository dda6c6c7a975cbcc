"""What a search optimizes: a measure of validation or what a run costs, read from the files of the run."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsynth.errors import InputError
from medsynth.runs.layout import METRICS, SUMMARY, read_json

MINIMIZE, MAXIMIZE = "minimize", "maximize"
COSTS = {  # numbers of summary.json that every run has
    "seconds": MINIMIZE,
    "images_per_second": MAXIMIZE,
    "peak_memory_gib": MINIMIZE,
    "weights.generator": MINIMIZE,
    "weights.discriminator": MINIMIZE,
    "weights.discriminator_trained": MINIMIZE,
}


@dataclass(frozen=True)
class Objective:
    """``val/...`` as a run logs it, or one of ``COSTS``; ``direction`` is ``minimize`` or ``maximize``."""

    name: str
    direction: str

    @property
    def measured(self) -> bool:
        """Whether it is known while a run trains, so that bad runs can be ended early."""
        return self.name.startswith("val/")


def make_objectives(names: Sequence[str], directions: Sequence[str] | None) -> tuple[Objective, ...]:
    """Objectives by name; without ``directions`` the one that the measure is made for.

    Raises:
        InputError: no name, one twice, or directions that do not fit.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(
            "search.objectives names one or more measures, each once: search.objectives=[val/fd_mini,seconds]."
        )
    if directions is None:
        directions = [_usual_direction(name) for name in names]
    if len(directions) != len(names) or not set(directions) <= {MINIMIZE, MAXIMIZE}:
        raise InputError(
            f"search.directions has {MINIMIZE} or {MAXIMIZE} for each of the {len(names)} objectives, "
            f"as search.directions=[{','.join([MINIMIZE] * len(names))}]."
        )
    return tuple(Objective(name, direction) for name, direction in zip(names, directions, strict=True))


def value_of(folder: Path, name: str) -> float:
    """The value that the finished run in ``folder`` came to.

    A measure is that of the exported generator: taken at the validation where the run's own objective was best.

    Raises:
        InputError: it is not there, or not finite.
    """
    summary = read_json(folder / SUMMARY)
    if name in COSTS:
        value = _nested(summary, name)
    else:
        best = summary.get("best") or {}
        at_best = dict(read_curve(folder / METRICS, name)).get(best.get("images_seen"))
        value = best.get("value") if best.get("objective") == name else at_best
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"The run came to no finite value of {name}.")
    return float(value)


def read_curve(path: Path, name: str) -> list[tuple[int, float]]:
    """(images seen, value) of one column of metrics.csv, also while it grows; empty where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    points = []
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):  # the last line may not be whole yet
        with contextlib.suppress(KeyError, TypeError, ValueError):  # an empty cell: this row is of something else
            points.append((int(row["step"]), float(row[name])))
    return points


def _nested(summary: dict[str, Any], name: str) -> Any:
    node: Any = summary
    for part in name.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _usual_direction(name: str) -> str:
    if name in COSTS:
        return COSTS[name]
    return MAXIMIZE if name == "val/is" or name.startswith("val/is_") else MINIMIZE
