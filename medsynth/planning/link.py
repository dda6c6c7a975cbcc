"""How fast two processes of this machine exchange gradients by gloo: measured in two processes of its own."""

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

_PATIENCE = 180  # seconds until two processes must have met and measured
_REPEATED = 7


class Link(NamedTuple):
    """``bandwidth`` in bytes a second that a device sends, ``latency`` in seconds of one exchange."""

    bandwidth: float
    latency: float
    measured: bool


def measure_link(elements: list[int]) -> Link:
    """Of two processes that average gradients of so many ``elements`` each, in float32.

    Raises:
        InputError: the processes do not come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="medsynth-plan-") as folder:
        order = Path(folder) / "order.json"
        order.write_text(json.dumps({"elements": elements, "threads": torch.get_num_threads()}))
        command = [sys.executable, "-m", "medsynth.planning.link", str(order)]
        processes = [
            subprocess.Popen([*command, rank], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank in ("0", "1")
        ]
        try:
            out, said = processes[0].communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            out, said = "", f"no answer in {_PATIENCE} s"
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    if not out:
        last = said.strip().splitlines()[-1:] or ["no word"]
        raise InputError(f"Two processes of this machine cannot exchange ({last[0]}): give plan.bandwidth_gbps=10.")
    seconds, latency = json.loads(out)
    return Link(bandwidth=4 * sum(elements) / max(seconds - latency, 1e-9), latency=latency, measured=True)


def main(order: Path, rank: int) -> None:
    """One of the two processes; the first prints the medians, in seconds: of all gradients, and of one number."""
    told = json.loads(order.read_text())
    torch.set_num_threads(told["threads"])
    meeting = f"file://{order.parent / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=_PATIENCE))
    parameters = [torch.zeros(count) for count in told["elements"]]
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
    for _ in range(_REPEATED):
        dist.barrier()
        start = time.perf_counter()
        exchange()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
