"""The plan of a sweep, sweep.json: its jobs and their numbers; and the search for a sweep to resume."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medsynth
from medsynth.errors import InputError
from medsynth.files import replacing
from medsynth.runs.layout import SWEEP
from medsynth.runs.records import read_json
from medsynth.runs.status import RUNNING, State, state, this_process

ROOT = Path("multirun")
# Arguments that may differ where the same sweep is started again: they do not change what is trained.
_NOT_TRAINED = ("sweep.", "hydra", "report", "logger", "-")
SWEEP_OPTIONS = ("sweep.", "vary=")  # arguments of a sweep that are none of its jobs'
_EARLIER, _RENAMED = "sweep=", {"remedies": "small_data"}  # how earlier versions named vary= and a preset


def same_arguments(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether both lists of arguments ask for the same trainings."""
    return sorted(_training_arguments(one)) == sorted(_training_arguments(other))


def makes_recorded_jobs(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Tell whether a plan of the same arguments has recorded jobs only; presets of vary= may change with versions."""
    made, recorded = ({frozenset(_training_arguments(job)) for job in plan["jobs"]} for plan in (new, old))
    return made <= recorded or any(argument.startswith("vary=") for argument in new["arguments"])


def sweep_folder(resume: bool | str | None, fresh: str, arguments: Sequence[str]) -> str:
    """Return the folder of the sweep to resume, or create a new one.

    Args:
        resume: the option ``sweep.resume``: a folder, or true for the newest sweep with the same arguments.
        fresh: where a new sweep's folder is created; with a number behind it where another sweep has just taken it.
        arguments: as typed.

    Raises:
        InputError: ``resume`` is not the folder of a sweep, or there is none with the same arguments.
    """
    if isinstance(resume, str) and resume.lower() not in ("true", "false"):
        read_plan(Path(resume), f"sweep.resume={resume}")
        return resume
    if resume in (True, "true", "True"):
        return str(_newest(arguments))
    folder, number = Path(fresh), 1
    while True:
        try:
            folder.mkdir(parents=True)
            return str(folder)
        except FileExistsError:
            number += 1
            folder = Path(f"{fresh}-{number}")


def refuse_earlier_presets(arguments: Sequence[str]) -> None:
    """Refuse ``sweep=seeds``: presets are chosen by ``vary=``.

    Raises:
        InputError: names what to type instead.
    """
    for argument, today in zip(arguments, todays_arguments(arguments), strict=True):
        if argument != today:
            raise InputError(f"{argument} is not an option: type {today}; the options of a sweep are sweep.keep= etc.")


def todays_arguments(arguments: Sequence[str]) -> list[str]:
    """Return arguments of an earlier version as they are typed today: ``sweep=seeds`` is ``vary=seeds``."""
    return [_today(argument) for argument in arguments]


def read_plan(folder: Path, option: str) -> dict[str, Any]:
    """Read sweep.json in ``folder``.

    Raises:
        InputError: ``folder`` is not the folder of a sweep; the message names ``option``.
    """
    plan = read_json(folder / SWEEP)
    if not isinstance(plan.get("jobs"), list) or not isinstance(plan.get("compositions"), list):
        raise InputError(
            f"{option} is not the folder of a sweep: it holds no {SWEEP} with the jobs; name one such as "
            f"{ROOT}/2026-01-31/12-00-00."
        )
    count = len(plan["jobs"])
    plan = {"arguments": [], "order": list(range(count)), "swept": [], "objective": "objective"} | plan
    if len(plan["compositions"]) != count or not set(plan["order"]) <= set(range(count)):
        raise InputError(f"{option} cannot be resumed: its {SWEEP} is damaged; start the sweep anew, with its options.")
    return plan


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Replace sweep.json."""
    with replacing(folder / SWEEP) as temporary:
        temporary.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def new_plan(
    arguments: Sequence[str], jobs: Sequence[Sequence[str]], compositions: Sequence[str], swept: Sequence[str]
) -> dict[str, Any]:
    """Return the plan of a new sweep, as it is written to sweep.json.

    Args:
        arguments: as typed.
        jobs: overrides of each job.
        compositions: ``composition_hash`` of each job.
        swept: options in which the jobs differ.
    """
    return {
        "arguments": list(arguments),
        "directory": os.getcwd(),
        "jobs": [list(job) for job in jobs],
        "compositions": list(compositions),
        "order": list(range(len(jobs))),  # numbers of Hydra's first, second, ... job
        "swept": list(swept),
        "started": time.time(),
        "finished": None,
        "process": this_process(),
        "medsynth": medsynth.__version__,
    }


def extended(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the plan ``old`` with the additional jobs of ``new``: known jobs keep their numbers."""
    jobs, compositions = list(old["jobs"]), list(old["compositions"])
    free: dict[str, list[int]] = {}  # numbers of each composition, the first one last
    for number, composition in reversed(list(enumerate(compositions))):
        free.setdefault(composition, []).append(number)
    order = []
    for job, composition in zip(new["jobs"], new["compositions"], strict=True):
        if free.get(composition):
            order.append(free[composition].pop())
            continue
        order.append(len(jobs))
        jobs.append(job)
        compositions.append(composition)
    swept = list(dict.fromkeys([*old.get("swept", []), *new["swept"]]))
    merged = {"jobs": jobs, "compositions": compositions, "order": order, "swept": swept}
    return {**new, **merged, "started": old.get("started", new["started"])}


def job_number(folder: str, position: int) -> int:
    """Return the number, which is the name of the subfolder, of Hydra's job at ``position``."""
    order = read_json(Path(folder) / SWEEP).get("order") or []
    return order[position] if 0 <= position < len(order) else position


def states(folder: Path, plan: dict[str, Any]) -> list[State]:
    """Return the states of the jobs of this start, in Hydra's order."""
    return [state(folder / str(number)) for number in plan["order"]]


def is_running(folder: Path, plan: dict[str, Any]) -> bool:
    """Tell whether a job of the sweep is being trained now."""
    return any(state(folder / str(number)).status == RUNNING for number in range(len(plan["jobs"])))


def _training_arguments(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in todays_arguments(arguments) if not argument.startswith(_NOT_TRAINED)]


def _today(argument: str) -> str:
    key, value = argument[: len(_EARLIER)], argument[len(_EARLIER) :]
    if key != _EARLIER or value.startswith("{"):  # sweep={keep:last} sets options
        return argument
    for earlier, name in _RENAMED.items():
        value = re.sub(rf"\b{earlier}\b", name, value)
    return f"vary={value}"


def _newest(arguments: Sequence[str]) -> Path:
    plans = {path.parent: read_json(path) for path in ROOT.glob("*/*/" + SWEEP)}
    same = [folder for folder, plan in plans.items() if same_arguments(plan.get("arguments", []), arguments)]
    if not same:
        raise InputError(
            f"sweep.resume=true finds no sweep with these arguments below {ROOT}/: "
            f"give its folder, sweep.resume={ROOT}/..."
        )
    return max(same, key=lambda folder: plans[folder].get("started", 0.0))
