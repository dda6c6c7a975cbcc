"""The files of a run, read as far as they can be: what is damaged is left out and said in a sentence."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Curve = tuple[list[int], list[float]]
Option = str | int | float | bool | None

_PNG_STARTS, _PNG_ENDS = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where it was compiled


class Damage(list[str]):
    """Sentences that each name a file and what was left out of it."""

    def of(self, path: Path, what: str) -> None:
        self.append(f"{path.name} {what}.")


def read_record(path: Path, damage: Damage) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return content
    damage.of(path, "is no readable JSON and was left out")
    return {}


def read_configuration(path: Path, damage: Damage) -> dict[str, Any]:
    """A mapping in YAML; empty where the file is missing or damaged."""
    try:
        written = path.read_text()
        content = yaml.load(written, Loader=_Loader)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        written, content = "", None
    if isinstance(content, dict) and written.endswith("\n"):  # one that was cut may still be valid YAML
        return content
    damage.of(path, "is no whole YAML file and was left out")
    return {}


def read_metrics(path: Path, damage: Damage, *, growing: bool) -> dict[str, Curve]:
    """metrics.csv -> for every column its (images seen, values); NaN stands where training diverged.

    A last line without its end may hold half a number: it is left out, silently where the file is still ``growing``.
    """
    try:
        written = path.read_bytes().decode(errors="replace")
    except OSError:
        return {}
    whole, _, rest = written.rpartition("\n")
    if rest and not growing:
        damage.of(path, "ends within a line, which was left out")
    try:
        lines = list(csv.reader(whole.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()))
    except csv.Error:
        lines = []
    if not lines or lines[0][:1] != ["step"]:
        if whole:
            damage.of(path, "is no table of metrics and was left out")
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
        damage.of(path, f"has {unreadable:,} lines or cells that are no numbers, which were left out")
    return curves


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def read_samples(folder: Path, damage: Damage) -> tuple[dict[int, Path], Path | None]:
    """Images seen -> the picture of what was generated then, in order; and that of real images."""
    generated = {int(path.stem): path for path in folder.glob("*.png") if path.stem.isdecimal()}
    whole = {seen: path for seen, path in sorted(generated.items()) if _is_picture(path, damage)}
    real = folder / "real.png"
    return whole, real if real.is_file() and _is_picture(real, damage) else None


def _is_picture(path: Path, damage: Damage) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if content.startswith(_PNG_STARTS) and content.endswith(_PNG_ENDS):
        return True
    damage.of(path, "is no whole PNG file and was left out")
    return False


def entry(record: Mapping[str, Any], *names: str) -> Any:
    """What stands below ``names``, one in the other; None where anything on the way is missing."""
    node: Any = record
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def finite(value: Any) -> float | None:
    """A number; None of anything else, NaN and infinity too."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < math.inf else None


def text(value: Any) -> str | None:
    """Text that says something; None of anything else."""
    return value if isinstance(value, str) and value else None


def texts(values: Any) -> list[str]:
    """Of a list the texts; of anything else none."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def flat(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Option]]:
    """Dotted keys and plain values; a list is one value, written as text."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{key}.")
        elif value is None or isinstance(value, str | int | float | bool):
            yield key, value
        else:
            yield key, json.dumps(value, default=str)
