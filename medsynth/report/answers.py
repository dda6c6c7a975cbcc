"""Answers of ``medsynth verdict``, ``utility`` and ``audit``, read from a run's folder; the verdict as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medsynth.report.run_files import entry, finite
from medsynth.runs.records import read_json
from medsynth.terminal import answer as colored
from medsynth.terminal import finding, line_width, painted, table

_WIDTH = 110
_HEAD = ("", "value", "95 % interval", "real images", "limit", "better", "N fake", "N real")
_COMPARED = {"name", "value", "low", "high", "control", "limit", "side", "count"}
_MOST = 6  # reasons of an answer that are shown


def read_verdict(folder: Path) -> dict[str, Any] | None:
    """Return the whole record of a run's verdict; None: there is none."""
    record = read_json(folder / "verdict" / "verdict.json")
    answers = record.get("answers")
    if not isinstance(answers, Mapping) or not isinstance(record.get("scorecard"), Mapping):
        return None
    whole = all(
        isinstance(entry(answer, name), kind)
        for answer in answers.values()
        for name, kind in (("answer", str), ("rule", str), ("reasons", list))
    )
    return record if whole else None


def read_answers(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the newest records of ``medsynth utility`` and ``audit`` in a run's folder that have an answer."""
    found: dict[str, Mapping[str, Any]] = {}
    for command in ("utility", "audit"):
        paths = sorted((folder / command).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        records = (read_json(path) for path in paths)
        record = next((record for record in records if isinstance(record.get("answer"), str)), None)
        if record is not None:
            found[command] = record
    return found


def verdict_text(record: Mapping[str, Any]) -> str:
    """Format a verdict as lines: each answer, its rule and reasons, and the criteria of the scorecard."""
    return "\n".join(_lines(record)).rstrip()


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    for question, answer in record["answers"].items():
        yield f"{question.capitalize()}: {painted(colored(answer['answer']))}"
        yield from _wrapped(f"rule: {answer['rule']}")
        for reason in answer["reasons"][:_MOST]:
            yield from _wrapped(f"- {reason}")
        if len(answer["reasons"]) > _MOST:
            yield f"  - and {len(answer['reasons']) - _MOST} more, in the record"
        yield from _compared(answer.get("values"))
        yield ""
    yield "Scorecard"
    for criterion, content in record["scorecard"].items():
        measures = content["measures"]
        names = measures if isinstance(measures, str) else ", ".join(str(row.get("name")) for row in measures)
        yield from _wrapped(f"{criterion}: {names}")


def _compared(values: Any) -> Iterator[str]:
    """Yield a table of the values that an answer rests on, where they were compared with limits."""
    rows = [row for row in values if isinstance(row, Mapping)] if isinstance(values, list) else []
    rows = [row for row in rows if row.keys() >= _COMPARED and isinstance(row["count"], list | tuple)]
    if rows:
        yield from table(_HEAD, map(_row, rows))


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    value, limit = finite(row["value"]), finite(row["limit"])
    above = row["side"] == "above"
    beyond = value is not None and limit is not None and (value > limit if above else value < limit)
    name, shown = f"  {row['name']}", _number(value)
    return (
        finding(name) if beyond else name,
        finding(shown) if beyond else shown,
        f"{_number(row['low'])} to {_number(row['high'])}",
        _number(row["control"]),
        _number(limit),
        "lower" if above else "higher",
        *(f"{count:,}" if isinstance(count, int) else "-" for count in (*row["count"], None, None)[:2]),
    )


def _number(value: Any) -> str:
    number = finite(value)
    return "-" if number is None else f"{number:.3g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, line_width(_WIDTH), initial_indent="  ", subsequent_indent="    ")
