"""An evaluation as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

HEADER = ("", "value", "95 % interval", "baseline", "ratio", "N real", "N fake", "better")
BETTER = {"lower": "lower", "higher": "higher", "baseline": "like the baseline"}


def evaluation_text(record: Mapping[str, Any]) -> str:
    """The record of ``medsynth evaluate``: what was compared, the measures, those of each class, what to keep in mind.

    Baseline is the same measure of real images against other real images, and ratio the value in terms of it.
    """
    real, fake = record["real"], record["fake"]
    lines = [f"{fake['count']:,} images of {fake['source']}", f"against {real['count']:,} of {real['source']}", ""]
    lines += table(record["measures"])
    for name, measures in record.get("classes", {}).items():
        lines += ["", f"class {name}", *table(measures)]
    lines += ["", "baseline: the same of real images against other real images; ratio: value / baseline."]
    return "\n".join([*lines, *(f"note: {note}" for note in record["notes"])])


def in_current_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with today's names: earlier versions called the baseline a floor."""
    old = {"floor": "baseline", "num_floor": "num_baseline"}
    measures = [
        {old.get(key, key): old.get(value, value) if key == "better" else value for key, value in measure.items()}
        for measure in record["measures"]
    ]
    return {**record, "measures": measures}


def table(measures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Aligned lines, the names of the columns first."""
    rows = [HEADER, *(_row(measure) for measure in measures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(HEADER) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(measure: Mapping[str, Any]) -> tuple[str, ...]:
    known = math.isfinite(measure["low"]) and math.isfinite(measure["high"])
    return (
        measure["name"],
        _number(measure["value"]),
        f"{_number(measure['low'])} to {_number(measure['high'])}" if known else "-",
        _number(measure["baseline"]),
        _number(measure["ratio"]),
        f"{measure['num_real']:,}",
        f"{measure['num_fake']:,}",
        BETTER[measure["better"]],
    )


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"
