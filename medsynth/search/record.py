"""sweep.json of a search: so that a report reads it like a sweep, and a resumed search finds its options."""

from __future__ import annotations

import os
import time
from typing import Any

import medsynth
from medsynth.runs.layout import SWEEP, read_json
from medsynth.search.options import RECORD, Options
from medsynth.sweep.plan import write_plan


class Record:
    """Written whenever a trial starts, and at the end.

    Args:
        keys: what is searched.
        objective: the first, by which a report compares.
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
        self._write(jobs=jobs)

    def finished(self, jobs: list[list[str]]) -> None:
        self._write(jobs=jobs, finished=time.time())

    def _write(self, **changes: Any) -> None:
        self.content |= changes
        write_plan(self.folder, self.content)
