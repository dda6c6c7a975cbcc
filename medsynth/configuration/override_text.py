"""Values as text in Hydra's grammar of overrides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def quoted(value: object) -> str:
    """Quote text so that Hydra reads it back unchanged, with any commas, spaces, equal signs and brackets in it."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(value))
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def override(key: str, value: Any) -> str:
    """Write an option of Python's as ``key=value``: text, a path, a number, a truth value, None, or a list of these."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    return quoted(value) if isinstance(value, str | Path) else str(value)
