"""Measurement of the speed at which two processes of this machine exchange gradients by gloo."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from medsynth.contracts import InputError
from medsynth.lightning.distributed import average_gradients, averaged

_TIMEOUT = 180  # seconds for both processes together
_REPETITIONS = 7


class Link(NamedTuple):
    """The connection between two devices.

    Attributes:
        bandwidth: bytes per second that a device sends.
        latency: seconds of one exchange.
        measured: False: given by the user.
    """

    bandwidth: float
    latency: float
    measured: bool


def measure_link(elements: list[int]) -> Link:
    """Measure two processes that average float32 gradients.

    Args:
        elements: number of elements of each gradient.

    Raises:
        InputError: the processes cannot exchange, or not in time.
    """
    with tempfile.TemporaryDirectory(prefix="medsynth-plan-") as folder:
        order = Path(folder) / "order.json"
        order.write_text(json.dumps({"elements": elements, "threads": torch.get_num_threads()}), encoding="utf-8")
        command = [sys.executable, "-m", "medsynth.planning.link", str(order)]
        processes = [
            subprocess.Popen([*command, rank], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank in ("0", "1")
        ]
        try:
            out, errors = processes[0].communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            out, errors = "", f"no answer in {_TIMEOUT} s"
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    if not out:
        last = errors.strip().splitlines()[-1:] or ["no message"]
        raise InputError(
            f"Two processes of this machine cannot exchange data ({last[0]}): give the bandwidth instead, "
            "plan.bandwidth_gbps=10."
        )
    seconds, latency = json.loads(out)
    return Link(bandwidth=4 * sum(elements) / max(seconds - latency, 1e-9), latency=latency, measured=True)


def main(order: Path, rank: int) -> None:
    """Run one of the two processes; the first prints the median seconds of all gradients, and of one number."""
    task = json.loads(order.read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    meeting = f"file://{order.parent / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=_TIMEOUT))
    parameters = [torch.zeros(count) for count in task["elements"]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    number = {"loss": torch.ones(())}
    times = [_timed(lambda: average_gradients(parameters)), _timed(lambda: averaged(number))]
    if rank == 0:
        print(json.dumps(times), flush=True)
    dist.barrier()
    dist.destroy_process_group()


def _timed(exchange: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPETITIONS):
        dist.barrier()
        start = time.perf_counter()
        exchange()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
