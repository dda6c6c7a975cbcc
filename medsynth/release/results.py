"""The measured results of a run as Markdown; what nobody measured says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.evaluation.answers import NO, NOT_SHOWN, YES
from medsynth.release.private_words import PrivateWords
from medsynth.report.run_files import finite

NOT_MEASURED = "not measured"
SPLITS = ("train", "val", "test", "held_out", "all")
_ANSWERS = (YES, NO, NOT_SHOWN)
_NUMBERS = ("value", "low", "high", "control", "limit", "count", "p_holm")  # of an answer, where it has them
_MOST = 12  # rows of an answer


def evaluation_text(records: Sequence[Mapping[str, Any]], private: PrivateWords) -> str:
    """Return a table of the measures of each record of ``evaluation/``."""
    tables = [_table(record, private) for record in records if _measures(record)]
    return "\n\n".join(tables) if tables else NOT_MEASURED


def answers_text(records: Sequence[Mapping[str, Any]], private: PrivateWords) -> str:
    """Return the answers in records of ``utility/``, ``audit/`` or ``verdict/``: each with its rule and reasons."""
    lines = [
        line for record in records for question, node in _answers(record) for line in _answer(question, node, private)
    ]
    return "\n".join(lines) if lines else NOT_MEASURED


def measured_values(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, str]]:
    """Yield each measure of ``evaluation/`` that has a finite value, the value, and the split it was measured on."""
    for record in records:
        real = record.get("real")
        split = real.get("split") if isinstance(real, Mapping) else None
        for measure in _measures(record):
            value = finite(measure.get("value"))
            if value is not None:
                yield str(measure["name"]), value, split if split in SPLITS else "other"


def _measures(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    measures = record.get("measures")
    found = [measure for measure in measures if isinstance(measure, Mapping)] if isinstance(measures, list) else []
    return [measure for measure in found if _is_word(measure.get("name"))]


def _table(record: Mapping[str, Any], private: PrivateWords) -> str:
    real = record.get("real")
    real = real if isinstance(real, Mapping) else {}
    split = real.get("split") if real.get("split") in SPLITS else "images of their own"
    selected = ", on which the generator was selected" if real.get("selected") is True else ""
    lines = [
        f"Against real images: {split}{selected}.",
        "",
        "| measure | better | value | 95 % interval | real against real | real images | generated images |",
        "|---|---|---|---|---|---|---|",
    ]
    for measure in _measures(record):
        low, high = _number(measure.get("low")), _number(measure.get("high"))
        cells = (
            measure["name"],
            measure.get("better") if measure.get("better") in ("lower", "higher") else "",
            _number(measure.get("value")),
            "not known" if NOT_MEASURED in (low, high) else f"{low} to {high}",
            _number(measure.get("baseline")),
            _number(measure.get("num_real")),
            _number(measure.get("num_fake")),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    notes = record.get("notes")
    shown = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return "\n".join([*lines, *([""] if shown else []), *(f"* {markdown(private.removed(note))}" for note in shown)])


def _answers(node: Any, question: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each mapping at and below ``node`` that has an answer, with the key above it."""
    if not isinstance(node, Mapping):
        return
    if node.get("answer") in _ANSWERS:
        name = next((node[key] for key in ("question", "name") if _is_word(node.get(key))), question)
        yield str(name), node
    for key, value in node.items():
        if _is_word(key):
            yield from _answers(value, key)
        for item in value if isinstance(value, list) else ():
            yield from _answers(item, question)


def _answer(question: str, node: Mapping[str, Any], private: PrivateWords) -> Iterator[str]:
    numbers = [f"{name} {_number(node[name])}" for name in _NUMBERS if finite(node.get(name)) is not None]
    title = f"{question.replace('_', ' ')}: " if question else ""
    shown = f" ({', '.join(numbers)})" if numbers else ""
    yield f"* {title}**{node['answer']}**{shown}"
    if isinstance(node.get("rule"), str):
        yield f"    * Rule: {markdown(private.removed(node['rule']))}"
    yield from (f"    * {row}" for row in _compared(node))
    reasons = node.get("reasons")
    for reason in reasons if isinstance(reasons, list) else ():
        if isinstance(reason, str):
            yield f"    * {markdown(private.removed(reason))}"


def _compared(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value that an answer was given by."""
    rows = node.get("values")
    named = (
        [row for row in rows if isinstance(row, Mapping) and _is_word(row.get("name"))]
        if isinstance(rows, list)
        else []
    )
    for row in named[:_MOST]:
        numbers = [
            f"{key.replace('_', ' ')} {_number(row[key])}" for key in _NUMBERS if finite(row.get(key)) is not None
        ]
        counts = row.get("count")
        if isinstance(counts, list) and counts and all(finite(count) is not None for count in counts):
            numbers.append(f"count {' and '.join(map(_number, counts))}")
        yield f"{markdown(row['name'])}: {', '.join(numbers) or NOT_MEASURED}"


def scorecard_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the criteria of ``verdict/``: the measures of each, or that none was measured."""
    cards = [record["scorecard"] for record in records if isinstance(record.get("scorecard"), Mapping)]
    lines = [
        f"| {name} | {_measured_of(node.get('measures'))} |"
        for card in cards[-1:]
        for name, node in card.items()
        if _is_word(name) and isinstance(node, Mapping)
    ]
    return "\n".join(["| criterion | measured |", "|---|---|", *lines]) if lines else NOT_MEASURED


def _measured_of(rows: Any) -> str:
    named = (
        [row for row in rows if isinstance(row, Mapping) and _is_word(row.get("name"))]
        if isinstance(rows, list)
        else []
    )
    texts = [f"{markdown(row['name'])} {_plain(row.get('value'))}" for row in named]
    return ", ".join(dict.fromkeys(texts)) or NOT_MEASURED


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if value in _ANSWERS else _number(value)


def markdown(text: str) -> str:
    """Return ``text`` with the characters escaped that Markdown or HTML would take as its own."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in text)


def _is_word(text: Any) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= 60
        and text.replace("_", "").replace("@", "").replace(".", "").isalnum()
    )


def _number(value: Any) -> str:
    number = finite(value)
    return NOT_MEASURED if number is None else f"{number:,.0f}" if number == round(number) else f"{number:.4g}"
