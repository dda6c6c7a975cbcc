"""The command ``medsynth sweep resume=multirun/...``: resume a sweep with the arguments that it was started with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig

from medsynth.configuration.override_text import quoted
from medsynth.errors import InputError
from medsynth.sweep.plan import read_plan, todays_arguments
from medsynth.sweep.process import PROGRAM


def run(config: DictConfig) -> None:
    """Start the sweep again in the directory where it was first started; it does the jobs that are left.

    Raises:
        InputError: ``resume`` is not the folder of a sweep, or the directory is gone.
        SystemExit: with the sweep's exit code, where that is not 0.
    """
    if not config.resume:
        raise InputError("medsynth sweep needs the folder of the sweep to resume: resume=multirun/...")
    folder = Path(config.resume).resolve()
    plan = read_plan(folder, f"resume={config.resume}")
    directory = Path(plan.get("directory", "."))
    if not directory.is_dir():
        raise InputError(
            f"The sweep was started in {directory}, which no longer exists: its relative paths begin there. Create "
            "the directory again, with the data."
        )
    place = folder.relative_to(directory) if folder.is_relative_to(directory) else folder
    where = [f"hydra.sweep.dir={quoted(place)}", "sweep.resume=true"]
    command = [*PROGRAM, "-m", *todays_arguments(plan["arguments"]), *where]
    environment = dict(os.environ, HYDRA_FULL_ERROR="0")  # this process has set it, to see errors itself
    code = subprocess.run(command, cwd=directory, env=environment, check=False).returncode
    if code:
        sys.exit(code)
