"""The command ``medsynth sweep resume=multirun/...``: resume a sweep with the arguments that it was started with."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

import medsynth
from medsynth.configuration.override_text import quoted
from medsynth.configuration.trusted_paths import check_links
from medsynth.errors import InputError
from medsynth.runs.layout import SWEEP
from medsynth.runs.parent_process import PARENT
from medsynth.runs.stop_request import StopRequested
from medsynth.sweep.plan import read_plan, todays_arguments
from medsynth.sweep.process import GRACE, PROGRAM
from medsynth.sweep.recorded_arguments import check_arguments, texts_of, without_trust


def run(config: DictConfig) -> None:
    """Start the sweep again in the directory where it was first started; it does the jobs that are left.

    Raises:
        InputError: ``resume`` is not the folder of a sweep, or the directory is gone; or, without ``trust``, the record
            names more than what is trained, or another directory.
        SystemExit: with the sweep's exit code, where that is not 0.
    """
    if not config.resume:
        raise InputError("medsynth sweep needs the folder of the sweep to resume: resume=multirun/...")
    folder = Path(config.resume).resolve()
    plan = read_plan(folder, f"resume={config.resume}")
    directory = Path(str(plan.get("directory", ".")))
    arguments = todays_arguments(texts_of(plan.get("arguments"), folder / SWEEP))
    if not config.trust:
        check_links(folder)
        check_arguments(arguments, folder / SWEEP)
        _check_directory(directory)
    if not directory.is_dir():
        raise InputError(
            f"The sweep was started in {directory}, which no longer exists: its relative paths begin there. Create "
            "the directory again, with the data."
        )
    place = folder.relative_to(directory) if folder.is_relative_to(directory) else folder
    where = [f"hydra.sweep.dir={quoted(place)}", "sweep.resume=true", *(["trust=true"] if config.trust else [])]
    command = [*PROGRAM, "-m", *without_trust(arguments), *where]
    environment = dict(os.environ, HYDRA_FULL_ERROR="0")  # this process has set it, to see errors itself
    if not config.trust:
        environment |= _safe_imports(environment)
    code = exit_code_of(command, cwd=directory, env=environment)
    if code:
        sys.exit(code)


def exit_code_of(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> int:
    """Run the sweep as a process and return its exit code; it ends, in order, when this one is stopped or killed."""
    process = subprocess.Popen(command, cwd=cwd, env={**env, PARENT: str(os.getpid())})
    try:
        return process.wait()
    except KeyboardInterrupt as stop:
        if isinstance(stop, StopRequested):  # Ctrl-C has reached it already
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2 * GRACE)  # it waits for a job as long as GRACE
        raise
    finally:
        process.kill()
        process.wait()


def _check_directory(directory: Path) -> None:
    """Refuse to work in another directory than the present one, where files of the stranger could be read."""
    if directory.resolve() != Path.cwd():
        raise InputError(
            f"The sweep was started in {directory}: go there first, or type trust=true if the sweep is your own."
        )


def _safe_imports(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables by which Python imports nothing from the current directory, as ``python -m`` would."""
    checkout = Path(medsynth.__file__).parents[1]
    paths = [str(checkout)] if (checkout / "train.py").is_file() else []  # there it is found without being installed
    paths += [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    return {"PYTHONSAFEPATH": "1"} | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
