"""A training on several devices: how many processes it has, who starts them, and what is said where one fails.

Hydra composes in one process, which then starts the others by PyTorch's elastic launcher and waits; they are told the
composition and never compose anything themselves, so that a sweep's jobs cannot mix. Processes that torchrun or SLURM
have started train by themselves.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from joblib import cpu_count
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medsynth.contracts import InputError
from medsynth.gan import TrainingDiverged
from medsynth.runs.launcher_environment import world_size
from medsynth.runs.layout import read_json
from medsynth.runs.outcome import Stopped, last_checkpoint
from medsynth.runs.parent_process import PARENT
from medsynth.runs.status import DIVERGED, STOPPED

_OF_LAUNCHERS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR")
_OF_LAUNCHERS += ("MASTER_PORT", "TORCHELASTIC_RUN_ID")
# Ctrl-C reaches all processes of a terminal. These end by it without a word until they train and have what to save.
_WORKER = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL);"  # before all that takes time
    "from medsynth.cli.worker import main; main()"
)


def check_processes(config: DictConfig, environment: Mapping[str, str] = os.environ) -> int:
    """The number of processes that ``config`` asks for on all nodes.

    Raises:
        InputError: it asks for more than there is, for something else than the launcher has started, or for a strategy
            that is not there.
    """
    trainer = config.trainer
    strategy, nodes = trainer.get("strategy", "auto"), trainer.get("num_nodes", 1)
    if strategy not in ("auto", "ddp"):
        raise InputError(f"trainer.strategy={strategy} is not there for two players in one step: choose ddp or auto.")
    on_gpu = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and torch.cuda.is_available())
    there = torch.cuda.device_count() if on_gpu else os.cpu_count() or 1
    devices = _count(trainer.devices, torch.cuda.device_count() if on_gpu else 1)
    asked, started = devices * nodes, world_size(environment)
    if devices > there and started in (1, asked):
        kind = "GPUs" if on_gpu else "processor cores"
        raise InputError(f"trainer.devices={trainer.devices} is more than the {there} {kind} there are.")
    if started > 1 and started != asked:
        processes = "process" if asked == 1 else "processes"
        raise InputError(
            f"trainer.devices={devices} on trainer.num_nodes={nodes} asks for {asked} {processes}, but {started} were "
            "started: give the numbers that torchrun or SLURM was given."
        )
    if started == 1 and nodes > 1:
        raise InputError(
            f"trainer.num_nodes={nodes} needs a launcher on each node: torchrun --nnodes={nodes} "
            f"--nproc-per-node={devices} ... train.py, or srun."
        )
    return asked


def train_in_processes(count: int, config: DictConfig, folder: Path, *, resumed: bool) -> None:
    """Start ``count`` processes on this machine that train as ``config`` says, and wait for them.

    Raises:
        InputError: one of them has failed; what is said is what the first one said.
    """
    for name in ("torch.distributed.elastic", "torch.distributed.elastic.agent.server.api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _OF_LAUNCHERS:
        os.environ.pop(name, None)
    os.environ[PARENT] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // count)))
    with tempfile.TemporaryDirectory(prefix="medsynth-processes-") as place:
        order = Path(place) / "order"
        told = {"config": config, "folder": folder, "resumed": resumed, "hydra": HydraConfig.instance().cfg}
        order.write_bytes(pickle.dumps(told))
        try:
            elastic_launch(launch_config(count), sys.executable)("-u", "-c", _WORKER, str(order))
        except ChildFailedError as error:
            raise _first_failure(error, Path(place), folder, count) from error
        except (SignalException, KeyboardInterrupt) as stop:
            asked = getattr(stop, "sigval", None) == signal.SIGUSR1
            said = next((record["said"] for record in _left(Path(place)) if record["status"] == STOPPED), None)
            raise Stopped(said or f"Stopped. {last_checkpoint(folder)}", requeue=asked) from stop


def launch_config(count: int) -> LaunchConfig:
    """``count`` processes on this machine, of which none is started again."""
    return LaunchConfig(
        run_id="medsynth",
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
        shutdown_timeout=60,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2",
    )


def _first_failure(error: ChildFailedError, place: Path, folder: Path, count: int) -> InputError:
    left = _left(place)
    for record in left:  # what others say then is that the exchange with this one broke off
        if record["status"] == DIVERGED:
            return TrainingDiverged(record["said"])
        if record["status"] == STOPPED:
            return Stopped(record["said"], requeue=record["requeue"])
    number, failure = error.get_first_failure()
    if failure.exitcode < 0:  # those that say something then only say that this one is gone
        name = signal.Signals(-failure.exitcode).name
        return InputError(f"Process {number} of {count} was ended by {name}. {last_checkpoint(folder)}")
    return InputError(
        left[0]["said"] if left else f"Process {number} of {count} ended with exit code {failure.exitcode}."
    )


def _left(place: Path) -> list[dict[str, Any]]:
    """What processes have left of their failures, in the order of time."""
    paths = sorted(place.glob("failure-*"), key=lambda path: path.stat().st_mtime)
    return [record for record in map(read_json, paths) if record]


def _count(devices: Any, there: int) -> int:
    if devices in ("auto", -1, "-1"):
        return max(1, there)
    try:
        count = len(devices) if not isinstance(devices, int | str) else int(devices)
    except ValueError:
        count = 0
    if count < 1:
        raise InputError(f"trainer.devices={devices} is no number of devices: give 1 or more, or auto.")
    return count
