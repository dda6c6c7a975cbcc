"""metrics.csv: one row per logged step, kept whole over a resume."""

from __future__ import annotations

import contextlib
import csv
import io
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from medsynth.files import replacing


class CSVLogger(Logger):
    """Rows of ``step, name, name, ...``; values logged at the same step share a row.

    Lightning's own CSVLogger deletes an older file of the same run, so a resumed run would lose its past. This one
    reads it, drops what lies after the step it resumes from, and goes on. The file is complete at any time.
    """

    def __init__(self, *, path: str):
        super().__init__()
        self.path = Path(path)
        self._row: dict[str, str] = {}  # the last one, which the next call may add to; the others are in the file alone
        self._start = 0  # where it begins in the file, in bytes
        self._columns: list[str] = ["step"]
        self._started = False

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
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
        """With all columns, and of the rows those before the step ``before``, one by one: there may be millions."""
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
        """In the place of what was written of it before."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="").writerow(self._row)
        with self.path.open("r+b") as file:
            file.seek(self._start)
            file.write(text.getvalue().encode())
            file.truncate()
