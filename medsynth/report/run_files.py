"""Reading of a run's files, also of damaged ones: what cannot be read is left out and described in a sentence."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medsynth.runs.layout import RECONSTRUCTED, TRANSLATED
from medsynth.untrusted_files import LARGEST_TABLE, UnreadableFile, load_bytes, load_json, load_yaml, parsed_table

Curve = tuple[list[int], list[float]]
Option = str | int | float | bool | None

_PNG_STARTS, _PNG_ENDS = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class Damage(list[str]):
    """Sentences about damaged files."""

    def add(self, path: Path, description: str) -> None:
        """Add the sentence that the file at ``path`` has this ``description``."""
        self.append(f"{path.name} {description}.")


def read_record(path: Path, damage: Damage) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or damaged."""
    try:
        content = load_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, UnreadableFile):
        content = None
    if isinstance(content, dict):
        return content
    damage.add(path, "is not a readable JSON object and was left out")
    return {}


def read_configuration(path: Path, damage: Damage) -> dict[str, Any]:
    """Read a YAML mapping; empty if the file is missing or damaged."""
    try:
        content = load_yaml(path)
        is_whole = path.read_bytes().endswith(b"\n")  # a truncated one may still be valid YAML
    except FileNotFoundError:
        return {}
    except (OSError, UnreadableFile):
        content, is_whole = None, False
    if isinstance(content, dict) and is_whole:
        return content
    damage.add(path, "is not a complete YAML file and was left out")
    return {}


def read_metrics(path: Path, damage: Damage, *, growing: bool) -> dict[str, Curve]:
    """Read metrics.csv into (images seen, values) for each column, with NaN where the training diverged.

    A last line without its end may have half a number: it is left out, without a remark if the file is ``growing``.
    """
    try:
        written = load_bytes(path, largest=LARGEST_TABLE).decode(errors="replace")
    except UnreadableFile as error:
        damage.add(path, f"{error.description} and was left out")
        return {}
    except OSError:
        return {}
    complete, _, rest = written.rpartition("\n")
    if rest and not growing:
        damage.add(path, "ends with an incomplete line, which was left out")
    try:
        lines = parsed_table(complete)
    except csv.Error:
        lines = []
    if not lines or lines[0][:1] != ["step"]:
        if complete:
            damage.add(path, "is not a table of metrics and was left out")
        return {}
    return _columns(lines, path, damage)


def _columns(lines: list[list[str]], path: Path, damage: Damage) -> dict[str, Curve]:
    names = lines[0][1:]
    curves: dict[str, Curve] = {}
    unreadable = 0
    for line in lines[1:]:
        step = _number(line[0]) if line else None
        if step is None or not 0 <= step < 2**63 or len(line) > len(lines[0]):
            unreadable += 1
            continue
        for name, cell in zip(names, line[1:], strict=False):
            value = _number(cell)
            unreadable += cell != "" and value is None
            if value is not None:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(int(step))
                values.append(value)
    if unreadable:
        damage.add(path, f"has {unreadable:,} lines or cells without a number, which were left out")
    return curves


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def read_samples(folder: Path, damage: Damage) -> tuple[dict[int, Path], Path | None, Path | None]:
    """Return the pictures of generated images by images seen, in order, that of real images, and of reconstructions."""
    generated = {int(path.stem): path for path in folder.glob("*.png") if path.stem.isdecimal()}
    complete = {seen: path for seen, path in sorted(generated.items()) if _is_picture(path, damage)}
    others = (folder / name for name in ("real.png", RECONSTRUCTED))
    real, reconstructed = (path if path.is_file() and _is_picture(path, damage) else None for path in others)
    return complete, real, reconstructed


def read_translated(folder: Path, damage: Damage) -> Path | None:
    """Return the picture of sources, targets, translations and errors of the last validation; None: there is none."""
    path = folder / TRANSLATED
    return path if path.is_file() and _is_picture(path, damage) else None


def _is_picture(path: Path, damage: Damage) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if content.startswith(_PNG_STARTS) and content.endswith(_PNG_ENDS):
        return True
    damage.add(path, "is not a complete PNG file and was left out")
    return False


def entry(record: Mapping[str, Any], *names: str) -> Any:
    """Return ``record[names[0]][names[1]]...``; None if any of them is missing."""
    node: Any = record
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def finite(value: Any) -> float | None:
    """Return ``value`` if it is a finite number, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < math.inf else None


def text(value: Any) -> str | None:
    """Return ``value`` if it is a text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def texts(values: Any) -> list[str]:
    """Return the texts in ``values`` if it is a list, else an empty list."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def flat(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Option]]:
    """Yield dotted keys and plain values of a nested mapping; a list is one value, written as JSON."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{key}.")
        elif value is None or isinstance(value, str | int | float | bool):
            yield key, value
        else:
            yield key, json.dumps(value, default=str)
