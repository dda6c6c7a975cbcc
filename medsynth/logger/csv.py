"""metrics.csv: one row for each step that was logged, continued when the run is resumed."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from medsynth.files import replacing
from medsynth.untrusted_files import UnreadableFile, table_rows

_log = logging.getLogger(__name__)
_DIGITS = 19  # of a number of images that fits 64 bits


class CSVLogger(Logger):
    """Rows of ``step, name, name, ...``; values logged at the same step share a row.

    Lightning's own CSVLogger deletes an older file of the same run, so that a resumed run would lose its past. This one
    reads the file, drops the rows from the step on at which the run resumes, and appends. The file is complete at any
    time.

    Args:
        path: path of the file.
    """

    def __init__(self, *, path: str):
        super().__init__()
        self.path = Path(path)
        self._row: dict[str, str] = {}  # the last one, which the next call may add to; the others are in the file only
        self._start = 0  # byte at which it begins in the file
        self._columns: list[str] = ["step"]
        self._started = False
        self._left_out = 0  # damaged lines of the file

    @property
    def name(self) -> str:
        """Name of the logger, for Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: Lightning's versions are not used."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml of the run has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write ``metrics`` into the row of ``step``, with new columns where names are new."""
        assert step is not None
        if not self._started:
            self._read_until(step)
            self._started = True
        values = {"step": str(step), **{name: repr(float(value)) for name, value in metrics.items()}}
        amended = self._row.get("step") == str(step)
        self._row = {**self._row, **values} if amended else values
        new = [name for name in self._row if name not in self._columns]
        self._columns += new
        if new or not self.path.exists():
            self._rewrite(before=step)
        elif not amended:
            self._start = self.path.stat().st_size
        self._write_row()

    def _read_until(self, step: int) -> None:
        if not self.path.exists():
            return
        header = []
        with contextlib.suppress(UnreadableFile):
            header = next(table_rows(self.path), [])
        if header[:1] != ["step"] or len(set(header)) < len(header):
            aside = self.path.with_name(f"damaged-{self.path.name}")
            os.replace(self.path, aside)
            _log.warning("%s is damaged and was renamed to %s: its values are missing.", self.path.name, aside.name)
            return
        self._columns = header
        same = (row for row in self._read() if row["step"] == str(step))  # it may be added to
        self._row = next(({name: value for name, value in row.items() if value} for row in same), {})
        self._rewrite(before=step)
        if self._left_out:
            _log.warning("%s had %d damaged lines, which were left out.", self.path.name, self._left_out)

    def _rewrite(self, before: int) -> None:
        """Rewrite the file with all columns and the rows before the step ``before``, row by row to save memory."""
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            for row in self._read():
                if int(row["step"]) < before:
                    writer.writerow(row)
        self._start = self.path.stat().st_size

    def _read(self) -> Iterator[dict[str, str]]:
        """Yield the rows that are whole; the number of others becomes ``_left_out``."""
        self._left_out = 0
        lines = table_rows(self.path) if self.path.exists() else iter(())
        header = next(lines, [])
        for line in lines:
            if (
                len(line) == len(header)
                and line[0].isdecimal()
                and len(line[0]) < _DIGITS
                and all(map(_is_value, line))
            ):
                yield dict(zip(header, line, strict=True))
            elif line:
                self._left_out += 1

    def _write_row(self) -> None:
        """Write the last row in place of its earlier version."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="").writerow(self._row)
        with self.path.open("r+b") as file:
            file.seek(self._start)
            file.write(text.getvalue().encode())
            file.truncate()


def _is_value(cell: str) -> bool:
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True
