"""One of the processes of a training on several devices, started by the process that Hydra runs in."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig

from medsynth.cli.compose import register_resolvers
from medsynth.cli.user_errors import explain
from medsynth.errors import EndCode
from medsynth.runs.launcher_environment import silence
from medsynth.runs.parent_process import end_with_parent
from medsynth.runs.run_end import end_of, write_run_end


def main() -> None:
    """Train the run in the file that the argument names; where that fails, write the end into a file beside it."""
    end_with_parent()
    order = Path(sys.argv[1])
    job = pickle.loads(order.read_bytes())  # written by the process that started this one, for its user alone
    setup_globals()
    register_resolvers()
    HydraConfig.instance().cfg = job["setup"]
    if os.environ["RANK"] != "0":
        silence()
    elif HydraConfig.initialized():
        hydra = HydraConfig.get()
        configure_log(cast(DictConfig, hydra.job_logging), hydra.verbose)
    from medsynth.lightning.process_launch import end_file  # torch comes with it
    from medsynth.training import fit

    rank = int(os.environ["RANK"])
    try:
        fit(job["run"])
    except BaseException as error:
        end = explain(error, "train")
        if end is None:
            # Not printed here: the first process to fail has the cause, the others only lost their exchange with it.
            end_file(order, rank).with_suffix(".traceback").write_text(traceback.format_exc(), encoding="utf-8")
            end = end_of(error)
        write_run_end(end, end_file(order, rank))
        # All are interrupted or diverge alike: the others must not have the first one ended before it has written all.
        sys.exit(0 if end.code in (EndCode.INTERRUPTED, EndCode.DIVERGED) and rank != 0 else 1)
