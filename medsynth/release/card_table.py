"""Tables and phrases that the model cards of generators and translators share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_RECORDED = "not recorded"


def table(rows: Mapping[str, str]) -> str:
    """Return a Markdown table of names and values without a header."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def spacing_text(spacing: Any) -> str:
    """Return the size of pixels in words."""
    if not spacing:
        return NOT_RECORDED
    row, column = spacing
    return f"{row:.4g} mm from row to row, {column:.4g} mm from column to column"


def counted(number: Any) -> str:
    """Return a number with separators, or that it is not recorded."""
    return NOT_RECORDED if number is None else f"{number:,}"
