"""The text of a table: its encoding, delimiter and records, and the order of its classes."""

from __future__ import annotations

import csv
import io
import re

from medsynth.contracts import InputError

DELIMITERS = ",;\t"
_DIGITS = "0123456789"
_AFTER_NUMBERS = 2**31  # more digits than a field can have


def records(content: bytes, *, named: str, wanted: str | None) -> list[tuple[int, list[str]]]:
    """(line where it begins, fields) of each record that is not empty, the header first.

    Args:
        content: UTF-8, with or without a byte order mark.
        named: the table, in messages.
        wanted: a column, by which the delimiter is recognized.

    Raises:
        InputError: it is no UTF-8 text, it is empty, or its quotes do not match.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"data.reader.table={named} is no UTF-8 text: save it as CSV in UTF-8.") from None
    # Without strict a forgotten quote would swallow the rows up to the next one.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, wanted), strict=True)
    found, line = [], 1
    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if any(fields):
                found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"data.reader.table={named} is no table from line {line} on: {error}.") from None
    if not found:
        raise InputError(f"data.reader.table={named} is empty: its first line names the columns.")
    return found


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key by which "2" comes before "10", and "10" before "a"."""
    parts = [part.lstrip("0") if part[0] in _DIGITS else part for part in re.findall("[0-9]+|[^0-9]+", name)]
    # Of two numbers without leading zeros the longer one is the larger one.
    return [(len(part) if part[:1] in _DIGITS else _AFTER_NUMBERS, part) for part in parts], name


def _delimiter(text: str, wanted: str | None) -> str:
    """The one by which the header has the column ``wanted``, or else most columns."""
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")

    def fit(delimiter: str) -> tuple[bool, int]:
        names = [name.strip(' "\r\n') for name in header.split(delimiter)]
        return wanted in names, len(names)

    return max(DELIMITERS, key=fit)
