"""One of the processes of a training on several devices: told what to do by the process that Hydra runs in."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals

from medsynth.cli.launch import register_resolvers
from medsynth.cli.refusal import sentence_of
from medsynth.cli.started import say_nothing

REQUEUE = "requeue"  # a file that says that SLURM is to start the job again


def main(order: Path) -> None:
    """Train as the file says; a failure is left beside it, as one sentence."""
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
        (order.parent / f"failure-{os.environ['RANK']}").write_text(sentence_of(error))
        if getattr(error, "requeue", False):
            (order.parent / REQUEUE).touch()
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
