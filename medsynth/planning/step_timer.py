"""Watches the steps of a training: how long they take, how much memory."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from medsynth.planning.memory import LiveBytes, lasting_bytes


@dataclass(frozen=True)
class Steps:
    """What steps of ``batch`` images take.

    ``seconds`` is of a step, the mean over penalties and generator updates that come only now and then; ``spread`` the
    distance of the quartiles, relative to it; ``waiting`` is for the next batch, and not in ``seconds``. ``peak`` is in
    bytes, all that lasts included; ``part`` is how many images are computed at a time.
    """

    batch: int
    part: int
    seconds: float
    spread: float
    waiting: float
    peak: int


class Watch(pl.Callback):
    """Lets some steps pass, times some, and weighs those of one more cycle. ``count`` is how many that are."""

    def __init__(self, cycle: int, timed: int):
        self.cycle = cycle
        self.warm_up = cycle * math.ceil(2 / cycle)
        self.timed = cycle * math.ceil(timed / cycle)
        self.count = self.warm_up + self.timed + cycle
        self.seconds: list[float] = []
        self._waited: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, model: Any, batch: Any, batch_idx: int) -> None:
        if len(self.seconds) == self.warm_up + self.timed:
            self._begin_weighing(trainer, model)
        _wait_for(model.device)
        self._waited.append(trainer.train_dataloader.seconds_waited)
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, model: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        _wait_for(model.device)
        self.seconds.append(time.perf_counter() - self._since)
        if len(self.seconds) == self.count:
            self._end_weighing(model)
            self.precision, self.device = str(trainer.precision), _name(model.device)

    def _begin_weighing(self, trainer: pl.Trainer, model: Any) -> None:
        self.lasting = lasting_bytes(model, trainer.optimizers)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        else:
            self._live = LiveBytes()
            self._live.__enter__()

    def _end_weighing(self, model: Any) -> None:
        if model.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(model.device)
        else:
            self._live.__exit__(None, None, None)
            kept = sum(size for name, size in self.lasting.items() if not name.startswith("trained_"))
            self.peak = kept + self._live.peak

    def steps(self, batch: int, *, accumulate: int) -> Steps:
        """What was seen, of steps of ``batch`` images."""
        timed = self.seconds[self.warm_up : self.warm_up + self.timed]
        turns = [timed[turn :: self.cycle] for turn in range(self.cycle)]
        waits = [after - before for before, after in zip(self._waited, self._waited[1:], strict=False)]
        seconds = statistics.mean(statistics.median(turn) for turn in turns)
        apart = statistics.mean(_quartile_distance(turn) for turn in turns)
        part, waiting = math.ceil(batch / accumulate), statistics.median(waits[self.warm_up :])
        return Steps(batch, part, seconds, apart / seconds, waiting, self.peak)


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
