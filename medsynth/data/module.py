"""The data module: from a source of images to the loaders of a run. It owns ``channels`` and ``image_size``."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from medsynth.contracts import InputError, Intensity, counter_seed
from medsynth.data.sampler import BlockSampler, ResumableBatchSampler

log = logging.getLogger(__name__)


class ImageDataset(Protocol):
    """A map-style dataset of ``{"image": float32 (C, H, W) in [-1, 1], "label": int (if any), "index": int}``.

    ``endless``: items exist for every index >= 0, each another image; ``len`` is then the length of an epoch.
    ``varies``: items exist for every index >= 0, each another view of image ``index % len``.
    A dataset with ``__getitems__`` makes batches itself.
    """

    endless: bool
    varies: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class Datasets(NamedTuple):
    """They share no image; ``test`` is what neither training nor model selection sees, None where there is none."""

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset | None = None


class Source(Protocol):
    """Where images come from. The attributes hold once ``datasets`` has returned.

    ``class_names`` is empty where the images have no labels; ``description`` is a line for people. ``spacing`` is in
    millimetres from row to row and from column to column, None where it is not known; ``modality`` is DICOM's code.
    ``content`` is equal where training and validation images come from the same ones, in the same order and classes.
    """

    class_names: tuple[str, ...]
    intensity: Intensity
    spacing: tuple[float, float] | None
    modality: str
    description: str
    content: str

    def datasets(self) -> Datasets:
        """Raises InputError for what the user can mend."""
        ...


class TrainLoader(DataLoader):
    """A loader that begins each epoch with the batch after the last one trained, so that a resumed run is exact.

    That number is Lightning's own count, asked anew whenever an epoch begins; counts of what was fetched would
    include what workers fetched ahead. Having ``state_dict`` is how Lightning knows that a loader can resume.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: ResumableBatchSampler,
        *,
        batches_trained: Callable[[], int | None],
        num_workers: int,
    ) -> None:
        super().__init__(dataset, batch_sampler=sampler, **_loading(num_workers))
        self._batches_trained = batches_trained
        self.seconds_waited = 0.0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        trained = self._batches_trained()
        if trained is not None:
            self.batch_sampler.start_at(trained)
        return self._timed(super().__iter__())

    def _timed(self, batches: Iterator[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """The batches; the time that the training stands still for them goes to ``seconds_waited``."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def state_dict(self) -> dict[str, int]:
        """What the order of the images depends on. The position is in the trainer's part of the checkpoint."""
        sampler = self.batch_sampler
        return {"seed": sampler.seed, "num_samples": sampler.num_samples, "batch_size": sampler.batch_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Warn where the checkpoint's order of images was another one: the run goes on, but not exactly."""
        changed = {name: (state[name], now) for name, now in self.state_dict().items() if state[name] != now}
        if changed:
            what = ", ".join(f"{name} {before} -> {now}" for name, (before, now) in changed.items())
            log.warning(
                "Resumed with another order of the training images (%s): not bit for bit what the run would have been.",
                what,
            )


class ImageDataModule(pl.LightningDataModule):
    """Loaders of real images; batches are ``contracts.Batch``.

    Args:
        source: where the images come from.
        channels: channels of every image.
        image_size: height and width of every image, in pixels.
        batch_size: images in a training batch.
        num_workers: processes that load images; 0 loads in the main process.
        seed: the order of the training images depends on it, and nothing else does.
    """

    def __init__(
        self, *, source: Source, channels: int, image_size: int, batch_size: int, num_workers: int = 0, seed: int
    ) -> None:
        super().__init__()
        self.source = source
        self.channels = channels
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.train_dataset: ImageDataset | None = None
        self.val_dataset: ImageDataset | None = None
        self.test_dataset: ImageDataset | None = None

    def prepare(self) -> None:
        """Build the datasets, once; later calls have no effect.

        Raises:
            InputError: the source cannot deliver, or ``batch_size``, ``channels`` or ``image_size`` do not fit it.
        """
        if self.train_dataset is not None:
            return
        if self.batch_size < 2:
            raise InputError(f"data.batch_size={self.batch_size} is too small: 2 or more images make a batch.")
        train, val, test = self.source.datasets()
        if self.batch_size > len(train):
            raise InputError(
                f"data.batch_size={self.batch_size} is more than the {len(train)} training images there are: "
                f"use smaller batches or more images."
            )
        shape, asked = tuple(train[0]["image"].shape), (self.channels, self.image_size, self.image_size)
        if shape != asked:
            raise InputError(
                f"data.channels={self.channels} and data.image_size={self.image_size} ask for images of shape {asked}, "
                f"but the data source delivers {shape}."
            )
        self.train_dataset, self.val_dataset, self.test_dataset = train, val, test

    def setup(self, stage: str) -> None:
        """Lightning's hook before fit, validate and test."""
        self.prepare()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty without labels."""
        return self.source.class_names

    @property
    def num_classes(self) -> int:
        """0: the images have no labels."""
        return len(self.class_names)

    @property
    def intensity(self) -> Intensity:
        """The way back from [-1, 1] to stored or physical values."""
        return self.source.intensity

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres from row to row and from column to column; None: not known."""
        return self.source.spacing

    @property
    def modality(self) -> str:
        """DICOM's code (CT, MR, ...); "" where it is not known."""
        return self.source.modality

    @property
    def description(self) -> str:
        """One line about the data, for people."""
        return self.source.description

    @property
    def content(self) -> str:
        """Equal where training and validation images come from the same ones, in the same order and classes."""
        return self.source.content

    @property
    def num_train(self) -> int:
        """Training images in an epoch."""
        return len(self.train_dataset)

    @property
    def num_val(self) -> int:
        """Validation images."""
        return len(self.val_dataset)

    def train_dataloader(self) -> TrainLoader:
        """Full batches in an order that depends on the seed; it goes on after the last batch the trainer trained.

        Of each, a process of several gets its share.

        Raises:
            InputError: ``batch_size`` cannot be shared out evenly.
        """
        self.prepare()
        rank, world_size = self._process()
        if self.batch_size % world_size:
            below = self.batch_size // world_size * world_size or world_size
            raise InputError(
                f"data.batch_size={self.batch_size} cannot be shared by {world_size} processes: it is the batch of all "
                f"of them together, {below} or {below + world_size} for example."
            )
        sampler = ResumableBatchSampler(
            self.num_train,
            self.batch_size,
            seed=self.seed,
            endless=self.train_dataset.endless,
            varies=self.train_dataset.varies,
            rank=rank,
            world_size=world_size,
        )
        return TrainLoader(
            self.train_dataset, sampler, batches_trained=self._batches_trained, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader:
        """All validation images, in order; no gradients are kept there, so its batches may be larger.

        Processes get them in turns, each image once.
        """
        self.prepare()
        return self._in_order(self.val_dataset, *self._process())

    def test_dataloader(self) -> DataLoader:
        """All test images, in order.

        Raises:
            InputError: none were held out.
        """
        self.prepare()
        if self.test_dataset is None:
            raise InputError("There are no test images: hold some out by data.test_fraction=0.1.")
        return self._in_order(self.test_dataset)

    @property
    def images_are_fixed(self) -> bool:
        """Whether a training image of one index is the same in each epoch."""
        return not (self.train_dataset.endless or self.train_dataset.varies)

    def ordered_batches(self) -> DataLoader:
        """All training images in the order of their index, once; as large batches as in validation."""
        return self._in_order(self.train_dataset)

    def calibration_batches(self, count: int) -> list[Tensor]:
        """``count`` batches ``(batch_size, C, H, W)`` of training images, chosen by the seed.

        They are drawn apart from the training order. Where there are fewer images than asked for, some return.
        """
        self.prepare()
        seed = counter_seed("calibration", self.seed)
        sampler = ResumableBatchSampler(self.num_train, self.batch_size, seed=seed, endless=False)
        return [_images(self.train_dataset, sampler.batch(number)) for number in range(count)]

    def val_images(self, count: int) -> Tensor:
        """The first ``count`` validation images ``(count, C, H, W)``; all of them where there are fewer."""
        self.prepare()
        return _images(self.val_dataset, range(min(count, self.num_val)))

    def _in_order(self, dataset: ImageDataset, rank: int = 0, world_size: int = 1) -> DataLoader:
        batch_size = min(max(self.batch_size, 64), math.ceil(len(dataset) / world_size))  # something for everyone
        sampler = BlockSampler(len(dataset), batch_size, rank=rank, world_size=world_size)
        return DataLoader(dataset, batch_sampler=sampler, **_loading(self.num_workers))

    def _process(self) -> tuple[int, int]:
        """(rank, number of processes)."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _batches_trained(self) -> int | None:
        """Batches trained since the beginning, also before a checkpoint; None where no trainer is at work."""
        if self.trainer is None:
            return None
        # Of Lightning's counters this is the one that counts what was trained: "ready" and "started" include a
        # batch that an interrupt cut short, "completed" lacks the last batch in checkpoints of on_train_batch_end.
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed


def _loading(num_workers: int) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": _collate,
        "worker_init_fn": _leave_signals,
    }


def _leave_signals(worker: int) -> None:
    """A request to stop reaches all processes of a terminal or job; the training answers it, and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _collate(items: Any) -> dict[str, Tensor]:
    return items if isinstance(items, dict) else default_collate(items)


def _images(dataset: Dataset, indices: range | list[int]) -> Tensor:
    return torch.stack([dataset[index]["image"] for index in indices])
