"""The file sweep.json of a search: a report reads it like that of a sweep, a resumed search finds its options in it."""

from __future__ import annotations

import os
import time
from typing import Any

import medsynth
from medsynth.runs.layout import SWEEP
from medsynth.runs.records import read_json
from medsynth.search.options import RECORD, Options
from medsynth.sweep.plan import write_plan


class Record:
    """Writes sweep.json when a trial starts and when the search ends.

    Args:
        options: of the search.
        keys: the searched options.
        objective: the first one, by which a report compares.
    """

    def __init__(self, options: Options, keys: list[str], objective: str):
        self.folder = options.folder
        self.content = {
            "arguments": list(options.train),
            "directory": os.getcwd(),
            "jobs": [],
            "swept": keys,
            "objective": objective,
            "started": read_json(self.folder / SWEEP).get("started", time.time()),
            "finished": None,
            "medsynth": medsynth.__version__,
            RECORD: options.recorded(),
        }

    def started(self, jobs: list[list[str]]) -> None:
        """Record the overrides of all trials so far."""
        self._write(jobs=jobs)

    def finished(self, jobs: list[list[str]]) -> None:
        """Record the end of the search."""
        self._write(jobs=jobs, finished=time.time())

    def _write(self, **changes: Any) -> None:
        self.content |= changes
        write_plan(self.folder, self.content)
