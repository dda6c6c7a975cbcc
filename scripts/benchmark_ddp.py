"""Measure the speed of two processes, and the cost of their exchange of gradients, by gloo on one thread each.

    uv run scripts/benchmark_ddp.py [--steps 20] [--rounds 2]

Two processes share the batch of one, or each has as many images as the one; throughputs as ratios, side by side in
turns. Beside them the estimate of `medsynth plan` from the steps of one process. To be run while the machine is idle.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.distributed.launcher.api import elastic_launch

import medsynth.gan
import medsynth.lightning.updating
from medsynth.cli.compose import register_resolvers
from medsynth.configuration.compose import conf_folder
from medsynth.lightning.distributed import Unwrapped, leave_processes
from medsynth.lightning.process_launch import launch_config
from medsynth.planning.estimate import Row, estimate
from medsynth.planning.link import measure_link
from medsynth.planning.measure import measure
from medsynth.planning.step_timer import Steps, StepTimer

COMPOSITIONS = {
    "dcgan, 64 px": (32, ["penalty=none"]),
    "tomsk of width 0.5 on the embedded backbone, 64 px": (16, ["experiment=tomsk_small"]),
}
COMMON = ["trainer.accelerator=cpu", "trainer.precision=32-true", "data.source.num_images=256", "run_dir=unused"]
EXCHANGES = (
    (medsynth.gan, "average_batch_statistics"),
    (medsynth.lightning.updating, "average_gradients"),
    (medsynth.lightning.updating, "averaged"),
)
IMAGES = 2_000_000  # more than are trained


# ---- in each of the processes ---------------------------------------------------------------------------------------


class Exchange(pl.Callback):
    """Time the waiting for other processes and the exchange with them, after the first ``start`` steps."""

    def __init__(self, start: int):
        self.start, self.waiting, self.exchanging = start, 0.0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, model: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if model.discriminator_updates == self.start:
            for module, name in EXCHANGES:
                setattr(module, name, self._timed(getattr(module, name)))
            self.since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, model: Any) -> None:
        self.seconds = time.perf_counter() - self.since

    def _timed(self, exchange: Callable) -> Callable:
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            if dist.is_initialized():
                dist.barrier()
            met = time.perf_counter()
            result = exchange(*arguments)
            self.waiting += met - start
            self.exchanging += time.perf_counter() - met
            return result

        return timed


def process(arguments: argparse.Namespace) -> None:
    """Train a few steps as one of one or two processes; the first writes how long they took."""
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    world_size = int(os.environ["WORLD_SIZE"])
    config = compose([*arguments.overrides, f"data.batch_size={arguments.batch}"])
    data = instantiate(config.data, _convert_="all")
    model = instantiate(config.task, _convert_="all", feature_cache=None)
    timer = StepTimer(1, arguments.steps)
    exchange = Exchange(timer.count)
    model.max_images = arguments.batch * (timer.count + arguments.steps)
    options = {"limit_val_batches": 0, "enable_checkpointing": False, "logger": False, "plugins": None}
    options |= {"enable_progress_bar": False, "callbacks": [timer, exchange], "devices": world_size}
    strategy = Unwrapped() if world_size > 1 else "auto"
    instantiate(config.trainer, strategy=strategy, **options).fit(model, data)
    if os.environ["RANK"] == "0":
        steps = timer.steps(arguments.batch // world_size, accumulate=1)
        parts = {"exchanging": exchange.exchanging / exchange.seconds, "waiting": exchange.waiting / exchange.seconds}
        Path(arguments.out).write_text(json.dumps({"seconds": steps.seconds, "peak": steps.peak, **parts}))
    leave_processes()


# ---- in the process that starts them --------------------------------------------------------------------------------


def compose(overrides: list[str]) -> DictConfig:
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return hydra.compose("train", overrides=[*overrides, *COMMON])


def train(count: int, batch: int, overrides: list[str], steps: int) -> dict[str, float]:
    """Train steps of ``batch`` images in ``count`` processes; return seconds, peak memory, fractions of the time."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        told = ["process", "--batch", str(batch), "--steps", str(steps), "--out", str(out), "--overrides", *overrides]
        elastic_launch(launch_config(count), sys.executable)("-u", __file__, *told)
        return json.loads(out.read_text())


def compare(title: str, batch: int, overrides: list[str], arguments: argparse.Namespace) -> None:
    """Train each setup in turns, and print the results of two processes relative to one, and to their plan."""
    print(f"{title}, batch {batch}:", flush=True)
    setups = {"half": (1, batch // 2), "one": (1, batch), "two": (2, batch), "two, twice the batch": (2, 2 * batch)}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in setups}
    for _ in range(arguments.rounds):
        for name, (count, images) in setups.items():
            runs[name].append(train(count, images, overrides, arguments.steps))
    found = {name: {key: statistics.median(run[key] for run in of) for key in of[0]} for name, of in runs.items()}
    for name, row in planned(batch, overrides, found).items():
        images, measured = setups[name][1], found[name]
        ratio = images / measured["seconds"] / (batch / found["one"]["seconds"])
        foreseen = (row.computing + row.exchanging) / measured["seconds"]
        print(
            f"  {name:21} {ratio:5.2f}x the throughput of one; {measured['exchanging']:.0%} of a step is the exchange, "
            f"{measured['waiting']:.0%} waiting for the other; planned over measured: {foreseen:.2f} of the time, "
            f"{row.memory / measured['peak']:.2f} of the memory",
            flush=True,
        )


def planned(batch: int, overrides: list[str], found: dict[str, dict[str, float]]) -> dict[str, Row]:
    """Return the estimate of `medsynth plan`, from one process, for two that share the batch, or twice the batch."""
    config = compose([*overrides, f"data.batch_size={batch}"])
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    measurement = measure(config, data, (2, 4), timed=1)  # of what does not depend on the size
    steps = [
        Steps(n, n, found[name]["seconds"], 0.0, 0.0, found[name]["peak"])
        for name, n in (("half", batch // 2), ("one", batch))
    ]
    measurement = dataclasses.replace(measurement, steps=tuple(steps))
    link = measure_link([size for sizes in measurement.gradients.values() for size in sizes])
    print(f"  a link of {link.bandwidth * 8e-9:.2f} Gbit/s and {link.latency * 1e3:.2f} ms between two processes")
    options = {"devices": [2], "accumulate": 1, "max_images": IMAGES, "limit": None}
    return {
        name: estimate(measurement, link, batch=images, **options).rows[0]
        for name, images in (("two", batch), ("two, twice the batch", 2 * batch))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["process"], help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--overrides", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    register_resolvers()
    warnings.simplefilter("ignore")
    for library in ("pytorch_lightning", "lightning_fabric", "torch.distributed.elastic"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if arguments.part == "process":
        return process(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    print(f"CPU, one thread a process, {os.cpu_count()} cores, gloo, float32, torch {torch.__version__}")
    for title, (batch, overrides) in COMPOSITIONS.items():
        compare(title, batch, overrides, arguments)


if __name__ == "__main__":
    main()
