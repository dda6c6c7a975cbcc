"""``medsynth sweep resume=multirun/...``: go on with a sweep, with what was typed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig

from medsynth.errors import InputError
from medsynth.sweep.plan import read_plan
from medsynth.sweep.process import PROGRAM, quoted


def run(config: DictConfig) -> None:
    """Start the sweep again where it was started first; it does what is left of it.

    Raises:
        InputError: ``resume`` is not the folder of a sweep.
        SystemExit: with the sweep's exit code, where that is not 0.
    """
    if not config.resume:
        raise InputError("medsynth sweep wants the folder of a sweep to go on with: resume=multirun/...")
    folder = Path(config.resume).resolve()
    plan = read_plan(folder, f"resume={config.resume}")
    directory = Path(plan.get("directory", "."))
    if not directory.is_dir():
        raise InputError(f"The sweep was started in {directory}, which is not there any more: its paths start from it.")
    place = folder.relative_to(directory) if folder.is_relative_to(directory) else folder
    command = [*PROGRAM, "-m", *plan["arguments"], f"hydra.sweep.dir={quoted(place)}", "sweep.resume=true"]
    environment = dict(os.environ, HYDRA_FULL_ERROR="0")  # this process has set it, to see errors itself
    code = subprocess.run(command, cwd=directory, env=environment, check=False).returncode
    if code:
        sys.exit(code)
