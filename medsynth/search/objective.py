"""Objectives of a search: metrics of validation and costs of a run, read from the files of the run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from medsynth.errors import InputError
from medsynth.runs.layout import METRICS, SUMMARY
from medsynth.runs.records import read_json
from medsynth.untrusted_files import UnreadableFile, load_table

Direction = Literal["minimize", "maximize"]
MINIMIZE: Direction = "minimize"
MAXIMIZE: Direction = "maximize"
COSTS: dict[str, Direction] = {  # numbers of summary.json that every run has
    "seconds": MINIMIZE,
    "images_per_second": MAXIMIZE,
    "peak_memory_gib": MINIMIZE,
    "parameters.generator": MINIMIZE,
    "parameters.discriminator": MINIMIZE,
    "parameters.discriminator_trained": MINIMIZE,
}
_EARLIER, _TODAY = "weights", "parameters"  # the block of summary.json in earlier versions, and now


@dataclass(frozen=True)
class Objective:
    """One objective of a search.

    Attributes:
        name: a metric as a run logs it, ``val/...``, or one of ``COSTS``.
        direction: ``minimize`` or ``maximize``.
    """

    name: str
    direction: Direction

    @property
    def measured(self) -> bool:
        """True if its values are known while a run trains, so that bad runs can be stopped early."""
        return self.name.startswith("val/")


def make_objectives(
    names: Sequence[str], directions: Sequence[str] | None, better: Mapping[str, str] | None = None
) -> tuple[Objective, ...]:
    """Return the objectives ``names``.

    Args:
        names: metrics or costs.
        directions: ``minimize`` or ``maximize`` for each; None: that of each measure or cost.
        better: "lower" or "higher" for each measure that the training logs.

    Raises:
        InputError: there is no name, one occurs twice or was renamed, or the directions do not match.
    """
    renamed = next((name for name in names if name != todays_name(name)), None)
    if renamed is not None:
        raise InputError(f"search.objectives={renamed} is unknown: type {todays_name(renamed)}.")
    if not names or len(set(names)) < len(names):
        raise InputError(
            "search.objectives needs one or more metrics or costs, each once: search.objectives=[val/fd_mini,seconds]."
        )
    if directions is None:
        directions = [_direction(name, better or {}) for name in names]
    if len(directions) != len(names) or not set(directions) <= {MINIMIZE, MAXIMIZE}:
        raise InputError(
            f"search.directions needs {MINIMIZE} or {MAXIMIZE} for each of the {len(names)} objectives, "
            f"such as search.directions=[{','.join([MINIMIZE] * len(names))}]."
        )
    return tuple(Objective(name, cast(Direction, direction)) for name, direction in zip(names, directions, strict=True))


def todays_name(name: str) -> str:
    """Return the present name of an objective of an earlier version: ``weights.generator``."""
    block, dot, rest = name.partition(".")
    return f"{_TODAY}.{rest}" if dot and block == _EARLIER else name


def value_of(folder: Path, name: str) -> float:
    """Read the value of an objective from the completed run in ``folder``.

    A metric is that of the exported generator: from the validation at which the run's own objective was best.

    Raises:
        InputError: there is no value, or it is not finite.
    """
    summary = read_json(folder / SUMMARY)
    if _EARLIER in summary:  # written by an earlier version
        summary = {_TODAY: summary[_EARLIER]} | summary
    if name in COSTS:
        value = _nested(summary, name)
    else:
        best = summary.get("best") or {}
        curve = read_curve(folder / METRICS, name)
        at_best = next((value for images, value in curve if images == best.get("images_seen")), None)
        value = best.get("value") if best.get("objective") == name else at_best
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"The run has no finite value of {name}.")
    return float(value)


def read_curve(path: Path, name: str) -> list[tuple[int, float]]:
    """Read pairs of images seen and value from one column of metrics.csv, which may still grow; empty: no values."""
    try:
        header, *rows = load_table(path) or [[]]  # without the last line, where it is incomplete
    except (OSError, UnreadableFile):
        return []
    points = []
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        with contextlib.suppress(KeyError, ValueError):  # an empty cell: the row holds other values
            points.append((int(cells["step"]), float(cells[name])))
    return points


def _nested(summary: dict[str, Any], name: str) -> Any:
    node: Any = summary
    for part in name.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _direction(name: str, better: Mapping[str, str]) -> Direction:
    return COSTS[name] if name in COSTS else MAXIMIZE if better.get(name) == "higher" else MINIMIZE
