"""What a run has for an option or a choice, as text that is the same wherever it is the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from medsynth.report.run import Run
from medsynth.report.run_files import Option

UNKNOWN = "unknown"  # of a run whose configuration was never written
DEFAULT = "default"  # of a choice that was not typed and left no part to name it by


def typed_value(run: Run, key: str, runs: Sequence[Run] = ()) -> str:
    """What ``run`` has for ``key``: the option, the choice that was typed, or the name of the part that it has."""
    if key in run.choices and (key in run.swept or key not in run.options):
        return plain(run.choices[key])
    if key in run.options:
        return _shown(run.options[key])
    return _chosen_by_default(run, key, runs) if run.options else UNKNOWN


def plain(text: str) -> str:
    """The same text for the same value: 0.10 and 1e-1 are 0.1; quotes are left out, and blanks in lists."""
    text = text.strip().strip("'\"")
    if text.startswith("["):
        return re.sub(r"['\"]|(?<=,)\s+", "", text)
    for convert in (int, float):
        try:
            return _shown(convert(text))
        except ValueError:
            continue
    return {"True": "true", "False": "false", "None": "null", "": "''"}.get(text, text)


def _shown(value: Option) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    text = str(value)
    return plain(text) if text.startswith("[") else text  # a list, which people type without quotes


def _chosen_by_default(run: Run, key: str, runs: Sequence[Run]) -> str:
    """A part is named as a run with the same part called it, else by the module of its target (the address rule)."""
    part = _below(run.options, key)
    if not part and not any(_below(other.options, key) for other in runs):
        return DEFAULT  # a preset, which leaves no part of its own
    for other in runs:
        if key in other.choices and other.options and _below(other.options, key) == part:
            return plain(other.choices[key])
    target = part.get("_target_")
    return target.split(".")[-2] if isinstance(target, str) and target.count(".") > 1 else DEFAULT


def _below(options: Mapping[str, Option], key: str) -> dict[str, Option]:
    """Of a group such as ``loss`` or ``backbone@second_backbone``, which stands at ``second_backbone``."""
    place = key.rpartition("@")[2].replace("/", ".") + "."
    return {name.removeprefix(place): value for name, value in options.items() if name.startswith(place)}
