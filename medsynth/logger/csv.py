"""metrics.csv: one row per logged step, kept whole over a resume."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
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
        self._rows: dict[int, dict[str, str]] = {}
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
        row = self._rows.setdefault(step, {"step": str(step)})
        row.update({name: repr(float(value)) for name, value in metrics.items()})
        new = [name for name in row if name not in self._columns]
        self._columns += new
        # Rewritten whole when a column is new or a row is amended; else one line is appended.
        if new or len(row) > len(metrics) + 1 or not self.path.exists():
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _read_until(self, step: int) -> None:
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            self._columns = list(reader.fieldnames or ["step"])
            for row in reader:
                if row["step"] and int(row["step"]) < step:
                    self._rows[int(row["step"])] = {name: value for name, value in row.items() if value}
        self._rewrite()

    def _rewrite(self) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows.values())
