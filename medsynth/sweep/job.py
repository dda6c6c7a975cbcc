"""One job of a sweep: its description, its record job.json, and the training that is started where needed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from medsynth.configuration.override_text import quoted
from medsynth.errors import EndCode, InputError
from medsynth.files import replacing
from medsynth.runs.layout import CHECKPOINT, JOB, SUMMARY, older_ones
from medsynth.runs.records import read_json
from medsynth.runs.run_end import RunEnd, end_of, end_of_silent_process, read_run_end
from medsynth.runs.status import DUPLICATE, MISSING, RUNNING, State, state, this_process
from medsynth.sweep.process import Ended, run_training
from medsynth.sweep.records import SETTLED, read_jobs

INTERRUPTED = RunEnd(EndCode.INTERRUPTED, "the sweep was interrupted")
LOCK = ".lock"  # in the sweep's folder, held while a process decides whether it does a job


@dataclass(frozen=True)
class Job:
    """One training of a sweep.

    Attributes:
        number: of the job in its sweep.
        folder: of its run.
        name: for people, such as ``loss=hinge,seed=1``.
        overrides: those in which the jobs of the sweep differ.
        all_overrides: arguments of the job's process.
        composition: ``composition_hash`` of its configuration; None: duplicates are not looked for.
    """

    number: int
    folder: Path
    name: str
    overrides: tuple[str, ...]
    all_overrides: tuple[str, ...]
    composition: str | None = None


def composition_hash(configuration: Mapping[str, Any]) -> str:
    """Return a hash of an unresolved configuration; independent of the order of its keys.

    Args:
        configuration: in plain Python types, without options that do not change the training.
    """
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def run_job(
    job: Job,
    *,
    threads: int | None = None,
    gpu: int | None = None,
    watch: Callable[[], RunEnd | None] | None = None,
    every: float = 2.0,
    train: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Train ``job``, or the rest of it, and return its record, the content of job.json.

    A job that completed or diverged, that runs in another process, or that duplicates another one is not started. One
    that was stopped, killed or failed is resumed from its last checkpoint. A failure is recorded and not raised; an
    interruption is recorded and raised.

    Args:
        job: the job.
        threads: see ``run_training``, as for ``gpu``, ``watch`` and ``every``.
        gpu: see there.
        watch: see there.
        every: see there.
        train: called in this process in place of starting one, except where a checkpoint is there to resume from.

    Raises:
        InputError: the folder holds a job with another configuration.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder.parent / LOCK):
        before = state(job.folder)
        record = _nothing_to_do(job, before)
        if record is not None:
            return record
        record = _begin(job)
    resumable = before.status != MISSING and bool(older_ones(job.folder / CHECKPOINT))
    try:
        if train is not None and not resumable:
            ended = _in_this_process(job.folder, train)
        else:
            options = {"folder": job.folder, "threads": threads, "gpu": gpu, "watch": watch, "every": every}
            ended = _in_a_process(job, resumable, options)
    except BaseException as error:
        _end(job, record, INTERRUPTED if isinstance(error, KeyboardInterrupt | SystemExit) else end_of(error), None)
        raise
    return _end(job, record, ended.end, ended.exit_code)


def _nothing_to_do(job: Job, now: State) -> dict[str, Any] | None:
    """Return the record of a job that is not to be started now; None for one that is."""
    record = read_json(job.folder / JOB)
    known = record.get("composition")
    if known and job.composition and known != job.composition:
        raise InputError(
            f"{job.folder} holds a job with another configuration: give the sweep a new folder, hydra.sweep.dir=..."
        )
    if now.status == RUNNING:
        return _described(job) | record | {"status": RUNNING, "code": None}
    end = read_run_end(now._asdict())
    if end is not None and now.status in SETTLED:
        complete = _described(job) | record | _end_record(end)
        # Of a job that outlived the process which waited for it, nobody has written the end.
        return complete if record.get("status") == end.status else _write(job, complete)
    original = _same_composition(job)
    if original is None:
        return None
    end = RunEnd(EndCode.DUPLICATE, f"the same configuration as job {original}")
    return _write(job, _described(job) | _end_record(end) | {"same_as": original, "attempts": 0})


def _same_composition(job: Job) -> int | None:
    if job.composition is None:
        return None
    for number, (record, *_) in read_jobs(job.folder.parent).items():
        same = record.get("composition") == job.composition and record.get("status") != DUPLICATE
        if same and str(number) != job.folder.name:
            return number
    return None


def _described(job: Job) -> dict[str, Any]:
    """Return the record of a job that starts now, with all of its keys."""
    return {
        "number": job.number,
        "name": job.name,
        "overrides": list(job.overrides),
        "composition": job.composition,
        "status": RUNNING,
        "code": None,
        "reason": None,
        "exit_code": None,
        "attempts": 1,
        "started": time.time(),
        "seconds": 0.0,
        "seconds_before": 0.0,  # in earlier attempts
        "same_as": None,
        "process": this_process(),
    }


def _begin(job: Job) -> dict[str, Any]:
    before = read_json(job.folder / JOB)
    spent = before.get("seconds_before", 0.0) + before.get("seconds", 0.0)
    record = _write(job, _described(job) | {"attempts": before.get("attempts", 0) + 1, "seconds_before": spent})
    (job.folder / SUMMARY).unlink(missing_ok=True)  # of the attempt before: it would be taken for this one's
    return record


def _end(job: Job, record: dict[str, Any], end: RunEnd, exit_code: int | None) -> dict[str, Any]:
    seconds = time.time() - record["started"]
    return _write(job, record | _end_record(end) | {"exit_code": exit_code, "seconds": seconds})


def _end_record(end: RunEnd) -> dict[str, Any]:
    return {name: value for name, value in end.record().items() if name in ("status", "code", "reason")}


def _in_a_process(job: Job, resumable: bool, options: dict[str, Any]) -> Ended:
    if not resumable:
        return run_training(job.all_overrides, **options)
    # Its folder was made by this sweep, or was checked when the sweep was resumed.
    ended = run_training([f"resume={quoted(job.folder)}", "trust=true"], **options)
    if ended.end.code in (EndCode.ALREADY_COMPLETE, EndCode.CHECKPOINT_DAMAGED):
        # Killed between its last checkpoint and its summary, or while it wrote: there is nothing to resume from.
        (job.folder / SUMMARY).unlink(missing_ok=True)
        return run_training(job.all_overrides, **options)
    return ended


def _in_this_process(folder: Path, train: Callable[[], Any]) -> Ended:
    started = time.perf_counter()
    try:
        train()
    except Exception as error:
        return Ended(1, time.perf_counter() - started, end_of(error))
    return Ended(0, time.perf_counter() - started, read_run_end(folder / SUMMARY) or end_of_silent_process(0))


def _write(job: Job, record: dict[str, Any]) -> dict[str, Any]:
    with replacing(job.folder / JOB) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record
