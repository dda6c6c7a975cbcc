"""Loaders of batches, which processes of their own may read: resumable, and errors arrive as they were raised."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from medsynth.contracts import Batch
from medsynth.data.sampler import BlockSampler, ResumableBatchSampler
from medsynth.data.source import ImageDataset
from medsynth.errors import InputError

log = logging.getLogger(__name__)


class _Samples(Dataset[Any]):
    """A dataset that returns errors as values: PyTorch would add the traceback of the loading process to their text."""

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: list[int]) -> Any:
        try:
            if hasattr(self._dataset, "__getitems__"):
                return cast(Any, self._dataset).__getitems__(indices)
            return [self._dataset[index] for index in indices]
        except InputError as error:
            return error


class Loader(DataLoader[Any]):
    """A loader that raises an ``InputError`` of a loading process as it was raised there."""

    def __init__(self, dataset: ImageDataset, sampler: BlockSampler | ResumableBatchSampler, num_workers: int) -> None:
        super().__init__(_Samples(dataset), batch_sampler=sampler, **_loading(num_workers))

    def __iter__(self) -> Any:
        return self._raising(super().__iter__())

    @staticmethod
    def _raising(batches: Iterator[Any]) -> Iterator[Batch]:
        for batch in batches:
            if isinstance(batch, InputError):
                if hasattr(batches, "_shutdown_workers"):  # they ignore signals, and would be waited for at the exit
                    cast(Any, batches)._shutdown_workers()
                raise batch
            yield batch


class TrainLoader(Loader):
    """A loader that begins each epoch with the batch after the last one trained, so that a resumed run is exact.

    That number is Lightning's own count, asked at the beginning of each epoch; a count of fetched batches would
    include those that workers fetch ahead. Lightning recognizes a loader that can resume by its ``state_dict``.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: ResumableBatchSampler,
        *,
        batches_trained: Callable[[], int | None],
        num_workers: int,
    ) -> None:
        super().__init__(dataset, sampler, num_workers)
        self._sampler = sampler
        self._batches_trained = batches_trained
        self.seconds_waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        trained = self._batches_trained()
        if trained is not None:
            self._sampler.start_at(trained)
        return self._timed(super().__iter__())

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and add the time that the training waits for them to ``seconds_waited``."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return what the order of the images depends on; the position is in the trainer's part of the checkpoint."""
        sampler = self._sampler
        order = {"seed": sampler.seed, "num_samples": sampler.num_samples, "batch_size": sampler.batch_size}
        return order | ({"balance_classes": True} if sampler.balanced else {})

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Warn if the checkpoint's order of images was different: the run continues, but not exactly."""
        before, now = ({"balance_classes": False} | order for order in (state, self.state_dict()))
        changed = {name: (before[name], value) for name, value in now.items() if before[name] != value}
        if changed:
            changes = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
            log.warning(
                "The run resumes with a different order of the training images (%s): its results differ from those of "
                "an uninterrupted run.",
                changes,
            )


def _loading(num_workers: int) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": _collate,
        "worker_init_fn": _ignore_signals,
    }


def _ignore_signals(worker: int) -> None:
    """Ignore requests to stop, which reach all processes of a terminal or job: the training ends its own workers."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):  # Windows lacks the last two
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _collate(samples: Any) -> dict[str, Tensor]:
    return default_collate(samples) if isinstance(samples, list) else samples
