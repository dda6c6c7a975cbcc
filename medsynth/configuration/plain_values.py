"""Values that people type as they are, and that Hydra's grammar of overrides does not read so: paths and patterns.

Hydra 1.3 reads ``key=value`` by a grammar in which ``( ) [ ] { } =``, quotes and commas have meanings, and that refuses
``~ ^ ! ; #`` and letters beyond ASCII.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from medsynth.configuration.override_text import quoted

_DATA_TEXT = re.compile(r"data\.(.*\.)?(root|cache_dir|table|patient_pattern)")  # the data package expands ~ itself
_PATH = re.compile(r"run|real|fake|training|out|resume|checkpoint|plan\.out|search\.(folder|resume)|hydra\.\w+\.dir")
_SWITCH = "run"  # a folder of most commands, and true or false of medsynth start
_BRACKETS = re.compile(r"[(\[{]")
_OPENING = ("[", "{", "'", '"')  # of a list, a group or a quoted text, which has to be closed


def with_quoted_values(overrides: Sequence[str], *, several: bool = False) -> list[str]:
    """Return ``overrides`` in which values that are meant as text are quoted, and ``~`` in paths is the home folder.

    A value that the grammar cannot read is text, whatever the option; the value of a path or pattern is text also where
    the grammar reads a number, a list or a sweep. What is quoted already stays as it is.

    Args:
        overrides: as typed; others than ``key=value`` stay as they are.
        several: a comma separates the values of a sweep.
    """
    parser = OverridesParser.create()
    return [_with_quoted_value(override, parser, several) for override in overrides]


def text_value(override: str) -> str | None:
    """Return the value of ``key=value``, without quotes, where the grammar reads it as text; None: it is another."""
    parsed = _parsed(override, OverridesParser.create())
    content = None if parsed is None or parsed.is_sweep_override() else parsed.value()
    return content if isinstance(content, str) else None


def _with_quoted_value(override: str, parser: OverridesParser, several: bool) -> str:
    key, equals, value = override.partition("=")
    if override.startswith("-") or not equals or not value.strip():
        return override
    name = key.lstrip("+~")
    is_path = _PATH.fullmatch(name) is not None
    is_text = is_path or _DATA_TEXT.fullmatch(name) is not None
    parsed = _parsed(override, parser)
    if parsed is None:
        if value.startswith(_OPENING) and not is_text:
            return override
        values = value.split(",") if several and not _BRACKETS.search(value) else [value]
        written = [one if _parsed(f"{key}={one}", parser) else _text(one, is_path) for one in values]
        typed = f"{key}={','.join(written)}"
        return typed if _parsed(typed, parser) else override
    if not is_text or (several and parsed.is_sweep_override()):
        return override
    if name == _SWITCH and not parsed.is_sweep_override() and isinstance(parsed.value(), bool):
        return override
    if parsed.is_sweep_override() or not isinstance(parsed.value(), str | None):
        return f"{key}={_text(value, is_path)}"
    from_home = is_path and str(parsed.value()).startswith("~/")
    return f"{key}={_text(str(parsed.value()), is_path)}" if from_home else override


def _text(value: str, is_path: bool) -> str:
    return quoted(os.path.expanduser(value) if is_path else value)


def _parsed(override: str, parser: OverridesParser) -> Override | None:
    try:
        return parser.parse_override(override)
    except HydraException:
        return None
