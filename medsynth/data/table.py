"""Parsing of tables in text form: encoding, delimiter and rows, and a natural order of names."""

from __future__ import annotations

import csv
import io
import re

from medsynth.data.errors import DataError

DELIMITERS = ",;\t"
_DIGITS = "0123456789"
_AFTER_NUMBERS = 2**31  # more digits than a field can have


def table_rows(content: bytes, *, name: str, column: str) -> list[tuple[int, list[str]]]:
    """Return (first line, fields) of each row that is not empty, the header first.

    Args:
        content: UTF-8, with or without a byte order mark.
        name: of the table, for messages.
        column: the name of a column that helps to recognize the delimiter.

    Raises:
        DataError: the content is not UTF-8 text, it is empty, or its quotes do not match.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"data.reader.table={name} is not UTF-8 text: save it as CSV in UTF-8.") from None
    # Without ``strict`` a forgotten quote would swallow all rows up to the next quote.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, column), strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields):
                rows.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"data.reader.table={name} cannot be parsed from line {line} on: {error}. Correct that line."
        ) from None
    if not rows:
        raise DataError(f"data.reader.table={name} is empty: its first line must name the columns.")
    return rows


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that puts "2" before "10", and "10" before "a"."""
    parts = [part.lstrip("0") if part[0] in _DIGITS else part for part in re.findall("[0-9]+|[^0-9]+", name)]
    # Of two numbers without leading zeros the longer one is the larger one.
    return [(len(part) if part[:1] in _DIGITS else _AFTER_NUMBERS, part) for part in parts], name


def _delimiter(text: str, column: str) -> str:
    """Return the delimiter that gives the header the column ``column``, or else the most columns."""
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")

    def fit(delimiter: str) -> tuple[bool, int]:
        names = [name.strip(' "\r\n') for name in header.split(delimiter)]
        return column in names, len(names)

    return max(DELIMITERS, key=fit)
