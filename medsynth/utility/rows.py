"""Rows of finished jobs: one JSON file each, so that a comparison that was interrupted resumes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medsynth.contracts import InputError
from medsynth.files import write_json
from medsynth.runs.records import read_json
from medsynth.runs.run_end import RunEnd
from medsynth.untrusted_files import parsed_json
from medsynth.utility.job import Job

WORK = "work.json"  # what all rows of the folder were computed with


class Rows:
    """The rows of one comparison, kept in a folder or, without one, in memory.

    Args:
        folder: of the rows; None: they are lost with this process.
        work: plain values that every row depends on.

    Raises:
        InputError: the folder has rows of other work.
    """

    def __init__(self, folder: Path | None, work: Mapping[str, Any]):
        self._folder = folder
        self._kept: dict[str, dict[str, Any]] = {}
        if folder is None:
            return
        # As JSON reads it: tuples are lists.
        described = parsed_json(json.dumps(work, default=str))  # as it is read from the file
        before = read_json(folder / WORK)
        if before and before != described:
            changed = [name for name in {**before, **described} if before.get(name) != described.get(name)]
            raise InputError(
                f"{folder} has results of other options or data ({', '.join(sorted(changed))}): type another "
                f"file, such as out={folder}_2.json, or those options again."
            )
        if not before:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / WORK, described)

    def get(self, job: Job) -> dict[str, Any] | None:
        """Return the row of a job; None: it is not finished."""
        if job.name not in self._kept and self._folder is not None:
            row = read_json(self._folder / f"{job.name}.json")
            if _is_row(row, job):
                self._kept[job.name] = _with_nan(row)
        return self._kept.get(job.name)

    def add(self, job: Job, row: dict[str, Any]) -> None:
        """Keep the row of a job, whose file is written completely or not at all."""
        self._kept[job.name] = row
        if self._folder is not None:
            write_json(self._folder / f"{job.name}.json", row)
            self._failure(job).unlink(missing_ok=True)

    def fail(self, job: Job, end: RunEnd) -> None:
        """Keep how a job failed, as ``<job>.failed.json``, until it has a row."""
        if self._folder is not None:
            write_json(self._failure(job), {"arm": job.arm.name, "size": job.size, "seed": job.seed, **end.record()})

    @property
    def place(self) -> str:
        """The place where rows are kept, for the end of a clause; "" without a folder."""
        return "" if self._folder is None else f" and kept in {self._folder}"

    def _failure(self, job: Job) -> Path:
        assert self._folder is not None
        return self._folder / f"{job.name}.failed.json"

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs without a row, in the given order."""
        return [job for job in jobs if self.get(job) is None]


def digest(values: Any) -> str:
    """Return a hash of plain values."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _is_row(row: Mapping[str, Any], job: Job) -> bool:
    """Check that a row is complete and of this job; a damaged one is computed again."""
    values, without = row.get("values"), row.get("without")
    if (row.get("arm"), row.get("size"), row.get("seed")) != (job.arm.name, job.size, job.seed):
        return False
    if not (isinstance(values, dict) and isinstance(without, dict) and values.keys() == without.keys()):
        return False
    lists = list(without.values())
    if not all(isinstance(part, list) and len(part) == len(lists[0]) for part in lists):
        return False
    return all(_is_number(value) for value in (*values.values(), *(entry for part in lists for entry in part)))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and not math.isinf(value))


def _with_nan(value: Any) -> Any:
    """Return NaN where JSON has null."""
    if isinstance(value, dict):
        return {name: _with_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_nan(entry) for entry in value]
    return math.nan if value is None else value
