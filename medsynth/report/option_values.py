"""Values of options and choices as text, equal for equal values, so that runs can be compared by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from medsynth.report.run import Run
from medsynth.report.run_files import Option

UNKNOWN = "unknown"  # value in a run whose configuration was never written
DEFAULT = "default"  # a choice that was not typed and has no component to name it by


def typed_value(run: Run, key: str, runs: Sequence[Run] = ()) -> str:
    """Return the value of ``key`` in ``run``: the typed choice, the option, or the name of its component.

    ``runs`` are asked how they call the same component, if this run did not type it.
    """
    if key in run.choices and (key in run.swept or key not in run.options):
        return plain(run.choices[key])
    if key in run.options:
        return _shown(run.options[key])
    return _chosen_by_default(run, key, runs) if run.options else UNKNOWN


def plain(text: str) -> str:
    """Normalize a typed value: 0.10 and 1e-1 become 0.1; quotes and blanks in lists are removed."""
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
    return plain(text) if text.startswith("[") else text  # a list, which is typed without quotes


def _chosen_by_default(run: Run, key: str, runs: Sequence[Run]) -> str:
    """Name a component as another run with the same one calls it, else by the module of its ``_target_``."""
    component = _options_of(run.options, key)
    if not component and not any(_options_of(other.options, key) for other in runs):
        return DEFAULT  # a preset, which has no options of its own
    for other in runs:
        if key in other.choices and other.options and _options_of(other.options, key) == component:
            return plain(other.choices[key])
    target = component.get("_target_")
    return target.split(".")[-2] if isinstance(target, str) and target.count(".") > 1 else DEFAULT


def _options_of(options: Mapping[str, Option], key: str) -> dict[str, Option]:
    """Return the options of a group such as ``loss``, or ``backbone@second_backbone``, found at ``second_backbone``."""
    prefix = key.rpartition("@")[2].replace("/", ".") + "."
    return {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}
