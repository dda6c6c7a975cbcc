"""Files of rows, one line of JSON each, to which long measurements add as they go: what has a row is not repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows so far, none without a file; a last line that was cut is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def append_rows(path: Path, *rows: Mapping[str, Any]) -> None:
    """Append rows in one write, so that several processes can add to a file; a last line that was cut is removed."""
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    if not whole:
        path.write_text("".join(f"{json.dumps(before)}\n" for before in read_rows(path)), encoding="utf-8")
    with path.open("ab", buffering=0) as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
