"""Processes of a training on several devices: their number, their start, and the end of the run if one fails.

Hydra composes in one process, which then starts the others by PyTorch's elastic launcher, hands them the composed
configuration and waits. Processes that torchrun or SLURM have started train by themselves.
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
from joblib import cpu_count
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medsynth.configuration.device_options import check_device_options, device_count
from medsynth.errors import EndCode, InputError
from medsynth.runs.launcher_environment import world_size
from medsynth.runs.parent_process import PARENT
from medsynth.runs.run_end import Interrupted, RunEnd, end_of_silent_process, error_of, read_run_end
from medsynth.runs.run_folder import RunFolder, last_checkpoint

_LAUNCHER_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK")
_LAUNCHER_VARIABLES += ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
# Ctrl-C reaches all processes of a terminal. These end by it silently until they train and have something to save.
_WORKER = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL);"  # before everything that takes time
    "from medsynth.cli.worker import main; main()"
)


def check_processes(trainer: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that the options ``trainer`` ask for on all nodes.

    Raises:
        InputError: they ask for more devices than exist, for a kind that does not, for another number than the launcher
            has started, or for an unknown strategy.
    """
    check_device_options(trainer)
    nodes = trainer.get("num_nodes", 1)
    accelerator = trainer["accelerator"]
    _check_accelerator(accelerator)
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    available = torch.cuda.device_count() if on_gpu else os.cpu_count() or 1
    devices = _count(trainer["devices"], torch.cuda.device_count() if on_gpu else 1)
    asked, started = devices * nodes, world_size(environment)
    if devices > available and started in (1, asked):
        kind = "GPUs" if on_gpu else "processor cores"
        raise InputError(
            f"trainer.devices={trainer['devices']} is more than the {available} {kind} of this machine: "
            "give fewer, or trainer.devices=auto."
        )
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


def launch_processes(count: int, run: RunFolder, setup: Any) -> None:
    """Start ``count`` processes on this machine that train ``run``, and wait for them.

    Args:
        count: processes.
        run: what they train.
        setup: whatever medsynth.cli.worker needs besides, such as the configuration of logging; pickled.

    Raises:
        InputError: one of them failed; code and message are those of the first one that did.
    """
    for name in ("torch.distributed.elastic", "torch.distributed.elastic.agent.server.api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _LAUNCHER_VARIABLES:
        os.environ.pop(name, None)
    os.environ[PARENT] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // count)))
    with tempfile.TemporaryDirectory(prefix="medsynth-processes-") as place:
        order = Path(place) / "order"
        order.write_bytes(pickle.dumps({"run": run, "setup": setup}))
        try:
            elastic_launch(launch_config(count), sys.executable)("-u", "-c", _WORKER, str(order))
        except ChildFailedError as error:
            raise error_of(_first_end(error, Path(place), run.path, count)) from error
        except (SignalException, KeyboardInterrupt) as stop:
            requeue = getattr(stop, "sigval", None) == getattr(signal, "SIGUSR1", 0)
            message = next((end.message for end in _ends(Path(place)) if end.code == EndCode.INTERRUPTED), None)
            raise Interrupted(message or f"Stopped. {last_checkpoint(run.path)}", requeue=requeue) from stop


def launch_config(count: int) -> LaunchConfig:
    """Configure ``count`` processes on this machine, of which none is started again."""
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


def end_file(order: Path, rank: int) -> Path:
    """Return the file beside ``order`` to which process ``rank`` writes its end."""
    return order.parent / f"end-{rank}.json"


def _first_end(error: ChildFailedError, place: Path, folder: Path, count: int) -> RunEnd:
    ends = _ends(place)
    diverged = next((end for end in ends if end.code == EndCode.DIVERGED), None)
    if diverged is not None:
        return diverged
    number, failure = error.get_first_failure()
    if failure.exitcode < 0:  # the others then report no more than that this one is gone
        name = signal.Signals(-failure.exitcode).name
        return RunEnd(EndCode.KILLED, f"Process {number} of {count} was ended by {name}. {last_checkpoint(folder)}")
    # After the first one the others report that the exchange with it broke off, or that they were told to stop.
    _print_first_traceback(place)
    return ends[0] if ends else end_of_silent_process(failure.exitcode)


def _print_first_traceback(place: Path) -> None:
    """Print the traceback of the process that failed first, if a fault of the program ended it."""
    for path in _end_files(place)[:1]:
        traceback = path.with_suffix(".traceback")
        if traceback.is_file():
            print(traceback.read_text(encoding="utf-8"), file=sys.stderr, flush=True)


def _ends(place: Path) -> list[RunEnd]:
    """Read the ends that processes have written, in the order of time."""
    return [end for end in map(read_run_end, _end_files(place)) if end is not None]


def _end_files(place: Path) -> list[Path]:
    return sorted(place.glob("end-*.json"), key=lambda path: path.stat().st_mtime)


def _check_accelerator(name: Any) -> None:
    found = torch.backends.mps.is_available() if name == "mps" else name in ("auto", "cpu") or torch.cuda.is_available()
    if not found:
        kind = "Apple's GPU" if name == "mps" else "a GPU of CUDA"
        raise InputError(
            f"trainer.accelerator={name} needs {kind}, which PyTorch does not find on this machine: choose cpu or auto."
        )


def _count(devices: Any, available: int) -> int:
    count = device_count(devices)
    return max(1, available) if count is None else count
