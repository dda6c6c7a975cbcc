"""A callback that measures the time and the memory of training steps."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from medsynth.contracts import Batch
from medsynth.gan import GAN
from medsynth.lightning.trainer_access import seconds_waited
from medsynth.planning.memory import LiveBytes, lasting_bytes


@dataclass(frozen=True)
class Steps:
    """Time and memory of steps of one batch size.

    Attributes:
        batch: images of a step.
        microbatch: images that are computed at a time.
        seconds: of a step, averaged over steps with and without penalties and generator updates.
        spread: distance of the quartiles relative to ``seconds``.
        waiting: seconds of waiting for the next batch, not included in ``seconds``.
        peak: bytes, networks and optimizers included.
    """

    batch: int
    microbatch: int
    seconds: float
    spread: float
    waiting: float
    peak: int


class StepTimer(pl.Callback):
    """Waits for some steps, times some, and measures the memory in one more cycle.

    Attributes:
        count: number of all these steps.
        lasting: see ``lasting_bytes``.
        peak: bytes.
        precision: of the trainer.
        device: its name.
    """

    lasting: dict[str, int]
    peak: int
    precision: str
    device: str

    def __init__(self, cycle: int, timed: int):
        """Plan the steps.

        Args:
            cycle: steps after which penalties and generator updates repeat.
            timed: steps to time, rounded up to whole cycles.
        """
        self.cycle = cycle
        self.warm_up = cycle * math.ceil(2 / cycle)
        self.timed = cycle * math.ceil(timed / cycle)
        self.count = self.warm_up + self.timed + cycle
        self.seconds: list[float] = []
        self._waited: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note when the step begins."""
        if len(self.seconds) == self.warm_up + self.timed:
            self._begin_memory(trainer, pl_module)
        _wait_for(pl_module.device)
        self._waited.append(seconds_waited(trainer))
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note how long the step took, and at the end how much memory."""
        _wait_for(pl_module.device)
        self.seconds.append(time.perf_counter() - self._since)
        if len(self.seconds) == self.count:
            self._end_memory(pl_module.device)
            self.precision, self.device = str(trainer.precision), _name(pl_module.device)

    def _begin_memory(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        assert isinstance(model, GAN)
        self.lasting = lasting_bytes(model, trainer.optimizers)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        else:
            self._live = LiveBytes()
            self._live.__enter__()

    def _end_memory(self, device: torch.device) -> None:
        if device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(device)
        else:
            self._live.__exit__(None, None, None)
            kept = sum(size for name, size in self.lasting.items() if not name.startswith("trained_"))
            self.peak = kept + self._live.peak

    def steps(self, batch: int, *, accumulate: int) -> Steps:
        """Return the result of the measurement.

        Args:
            batch: images of each step.
            accumulate: number of microbatches.
        """
        timed = self.seconds[self.warm_up : self.warm_up + self.timed]
        turns = [timed[turn :: self.cycle] for turn in range(self.cycle)]
        waits = [after - before for before, after in zip(self._waited, self._waited[1:], strict=False)]
        seconds = statistics.mean(statistics.median(turn) for turn in turns)
        distance = statistics.mean(_quartile_distance(turn) for turn in turns)
        microbatch, waiting = math.ceil(batch / accumulate), statistics.median(waits[self.warm_up :])
        return Steps(batch, microbatch, seconds, distance / seconds, waiting, self.peak)


def _quartile_distance(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
