"""Errors of translations against their targets, from the records of ``medsynth evaluate``: tables of texts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.report.run_files import finite
from medsynth.terminal import line_width, table

Table = tuple[str, list[tuple[str, ...]]]
_WIDTH = 100


def translation_tables(record: Mapping[str, Any]) -> list[Table]:
    """Return captions and rows, the names of the columns first; none where there are no translations.

    Args:
        record: of ``medsynth evaluate``, which may be anyone's: what is not one of translations has no tables.
    """
    paired = record.get("translation")
    if not isinstance(paired, Mapping):
        return []
    try:
        return list(_tables(paired))
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def translation_remarks(record: Mapping[str, Any]) -> list[str]:
    """Return how the tables were made and what they do not show, as lines."""
    paired = record.get("translation")
    if not translation_tables(record) or not isinstance(paired, Mapping):
        return []
    notes = [str(note) for note in paired.get("notes") or ()]
    return [*textwrap.wrap(str(paired.get("rule") or ""), line_width(_WIDTH)), *(f"note: {note}" for note in notes)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of rows of text, the titles first; the first and last column are aligned to the left."""
    return table(rows[0], rows[1:], left=(0, len(rows[0]) - 1))


def _tables(paired: Mapping[str, Any]) -> Iterator[Table]:
    count, patients, unit = int(paired["count"]), paired.get("patients"), str(paired["unit"])
    people = f" of {int(patients):,} patients" if patients else ""
    caption = f"{count:,} pairs{people}, values in {unit}{' in the mask' if paired['masked'] else ''}"
    header = ("", "translation", "95 % interval", "{}", "difference", "95 % interval", "better")
    rows = [_paired_row(row, "copy") for row in paired["measures"]]
    yield caption, [tuple(cell.format("source copied") for cell in header), *rows]
    for other in paired["against"]:
        rows = [_paired_row(row, "other") for row in other["measures"]]
        yield f"against {other['run']}", [tuple(cell.replace("{}", "other run") for cell in header), *rows]
    if paired["lesions"]:
        lesions = [_lesion_row(row) for row in paired["lesions"]]
        yield "lesions found, by radius", [("in", "radius", "lesions", "recall", "95 % interval"), *lesions]


def _paired_row(row: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    return (
        str(row["name"]),
        _number(row["value"]),
        _interval(row["low"], row["high"]),
        _number(row[f"{kind}_value"]),
        _number(row["difference_value"]),
        _interval(row["difference_low"], row["difference_high"]),
        str(row["better"]),
    )


def _lesion_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    smallest, largest = float(row["smallest_radius"]), finite(row["largest_radius"])
    size = f"{smallest:g} mm and more" if largest is None else f"{smallest:g} to {largest:g} mm"
    interval = _interval(row["low"], row["high"])
    return str(row["of"]), size, f"{int(row['lesions']):,}", _number(row["value"]), interval


def _number(value: Any) -> str:
    number = finite(value)
    return "-" if number is None else f"{number:.4g}"


def _interval(low: Any, high: Any) -> str:
    return "-" if finite(low) is None or finite(high) is None else f"{_number(low)} to {_number(high)}"
