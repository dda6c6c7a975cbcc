"""metrics.csv: one row for each step that was logged, continued when the run is resumed."""

from __future__ import annotations

import contextlib
import csv
import io
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from medsynth.files import replacing


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
        if self.path.exists():
            with self.path.open(newline="") as file:
                self._columns = list(csv.DictReader(file).fieldnames or ["step"])
            same = (row for row in self._read() if row["step"] == str(step))  # it may be added to
            self._row = next(({name: value for name, value in row.items() if value} for row in same), {})
            self._rewrite(before=step)

    def _rewrite(self, before: int) -> None:
        """Rewrite the file with all columns and the rows before the step ``before``, row by row to save memory."""
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            for row in self._read():
                if row["step"] and int(row["step"]) < before:
                    writer.writerow(row)
        self._start = self.path.stat().st_size

    def _read(self) -> Iterator[dict[str, str]]:
        with contextlib.suppress(FileNotFoundError), self.path.open(newline="") as file:
            yield from csv.DictReader(file, restval="")

    def _write_row(self) -> None:
        """Write the last row in place of its earlier version."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="").writerow(self._row)
        with self.path.open("r+b") as file:
            file.seek(self._start)
            file.write(text.getvalue().encode())
            file.truncate()
