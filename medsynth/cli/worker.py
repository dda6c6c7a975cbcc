"""One of the processes of a training on several devices: told what to do by the process that Hydra runs in."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals

from medsynth.cli.compose import register_resolvers
from medsynth.errors import sentence_of
from medsynth.runs.launcher_environment import say_nothing
from medsynth.runs.parent_process import end_with_parent
from medsynth.runs.status import DIVERGED, STOPPED


def main() -> None:
    """Train as the file named by the argument says; a failure is left beside it: status, sentence, whether SLURM is to
    start the job again.
    """
    end_with_parent()
    order = Path(sys.argv[1])
    told = pickle.loads(order.read_bytes())  # written by the process that started this one, for its user alone
    setup_globals()
    register_resolvers()
    HydraConfig.instance().cfg = told["hydra"]
    if os.environ["RANK"] == "0":
        configure_log(HydraConfig.get().job_logging, HydraConfig.get().verbose)
    else:
        say_nothing()
    from medsynth.cli import train  # torch comes with it

    try:
        train.in_this_process(told["config"], told["folder"], resumed=told["resumed"])
    except BaseException as error:
        status = train.status_of(error)
        record = {"status": status, "said": sentence_of(error), "requeue": getattr(error, "requeue", False)}
        (order.parent / f"failure-{os.environ['RANK']}").write_text(json.dumps(record))
        # All stop or diverge alike: the others must not have the first one ended before it has written all.
        sys.exit(0 if status in (STOPPED, DIVERGED) and os.environ["RANK"] != "0" else 1)
