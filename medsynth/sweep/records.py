"""Records of a sweep's jobs. Those of jobs that are done are read once by each process.

After each job the sweep looks at all others: reading all of their files each time would take a time that grows with the
square of their number.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from medsynth.report.findings import finding_names
from medsynth.runs.layout import JOB, SUMMARY, job_numbers
from medsynth.runs.records import read_json
from medsynth.runs.status import COMPLETED, DIVERGED, DUPLICATE, State, state

SETTLED = (COMPLETED, DIVERGED, DUPLICATE)  # not tried again: it is done, or would end in the same way
_SWEEPS = 8  # whose records are kept


class JobRecord(NamedTuple):
    """The content of a job's files.

    Attributes:
        job: content of job.json; empty: there is none.
        state: its status, and why it did not complete.
        best: best value of the objective; None: there is none.
        findings: names of what the doctor found.
    """

    job: dict[str, Any]
    state: State
    best: float | None
    findings: tuple[str, ...] = ()


_settled: OrderedDict[str, dict[int, JobRecord]] = OrderedDict()  # by the sweep's folder and the job's number


def read_jobs(sweep: Path) -> dict[int, JobRecord]:
    """Read the records of all jobs of a sweep that have a folder, by their numbers, in order."""
    known = _settled.setdefault(os.fspath(sweep.absolute()), {})
    _settled.move_to_end(os.fspath(sweep.absolute()))
    while len(_settled) > _SWEEPS:
        _settled.popitem(last=False)
    records: dict[int, JobRecord] = {}
    for number in job_numbers(sweep):
        record = known.get(number) or _read(sweep / str(number))
        if record.state.status in SETTLED:
            known[number] = record
        records[number] = record
    return records


def best(folder: Path) -> float | None:
    """Return the best value of the objective in the run in ``folder``; None: there is none."""
    value = (read_json(folder / SUMMARY).get("best") or {}).get("value")
    return float(value) if isinstance(value, int | float) else None


def _read(folder: Path) -> JobRecord:
    return JobRecord(
        read_json(folder / JOB), state(folder), best(folder), tuple(finding_names(read_json(folder / SUMMARY)))
    )
