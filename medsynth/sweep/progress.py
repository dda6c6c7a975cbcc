"""Output of a sweep for people: a line after each job, and a table at the end."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medsynth.runs.status import COMPLETED, DIVERGED, DUPLICATE, FAILED, KILLED, MISSING, RUNNING, STOPPED
from medsynth.sweep.records import read_jobs
from medsynth.terminal import finding, table

BAD = (FAILED, KILLED, DIVERGED)
WIDTH = 100  # of a reason in the table; job.json holds all of it


class Row(NamedTuple):
    """A job as the table shows it.

    Attributes:
        number: of the job.
        name: its varied options.
        status: one of ``runs.status.STATUSES``.
        reason: why it did not complete; None: it did.
        seconds: of all attempts, except those that were killed.
        best: value of the objective; None: there is none.
        findings: names of what the doctor found.
    """

    number: int
    name: str
    status: str
    reason: str | None
    seconds: float
    best: float | None
    findings: tuple[str, ...] = ()


def read_rows(sweep: Path) -> list[Row]:
    """Read the jobs of a sweep that have been started or found to be duplicates."""
    rows = []
    for number, (job, (status, reason), best, findings) in read_jobs(sweep).items():
        if status != MISSING:
            name, seconds = job.get("name", ""), job.get("seconds", 0.0) + job.get("seconds_before", 0.0)
            rows.append(Row(number, name, status, reason, seconds, best, findings))
    return rows


def progress_line(rows: Sequence[Row], number: int, total: int, objective: str, parallel: int) -> str:
    """Describe the end of job ``number``, with the progress of the sweep and an estimate of the time left.

    Args:
        rows: all jobs so far.
        number: of the job that has just ended.
        total: jobs of the sweep.
        objective: name of the objective.
        parallel: jobs that run at the same time.
    """
    row = next(row for row in rows if row.number == number)
    ended = [row for row in rows if row.status not in (RUNNING, STOPPED)]
    failed = sum(row.status in BAD for row in rows)
    value = f"  {objective} {row.best:.4g}" if row.best is not None and row.status == COMPLETED else ""
    reason = f": {row.reason}" if row.reason else ""
    if row.status == DIVERGED:
        reason += " (resuming the sweep does not repeat it)"
    notes = [_duration(row.seconds), f"{len(ended)} of {total} jobs done"]
    usual = [row.seconds for row in rows if row.status == COMPLETED and row.seconds]
    left = total - len(ended)
    if left and usual:
        notes.append(f"about {_duration(statistics.mean(usual) * left / parallel)} left")
    if failed:
        notes.append(f"{failed} failed")
    head = f"job {row.number} {row.status}: {row.name}"  # the number of its folder and of the report
    return f"{head}{value}{reason}  ({'; '.join(notes)})"


def job_table(rows: Sequence[Row], objective: str) -> str:
    """Return a table with a line for each job; the last column says why a job did not complete, or what was found."""
    head = ("job", "options", "status", f"best {objective} (lower)", "time", "")
    body = [
        (
            str(row.number),
            row.name,
            finding(row.status) if row.status in BAD else row.status,
            "" if row.best is None else f"{row.best:.4g}",
            "" if row.status == DUPLICATE else _duration(row.seconds),
            _short(row.reason or ", ".join(row.findings)),
        )
        for row in rows
    ]
    return "\n".join(table(head, body, left=range(len(head))))


def status_counts(statuses: Sequence[str]) -> str:
    """Return the number of jobs in each status: ``10 completed, 2 failed``."""
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))


def _short(reason: str) -> str:
    return reason if len(reason) <= WIDTH else reason[: WIDTH - 3] + "..."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
