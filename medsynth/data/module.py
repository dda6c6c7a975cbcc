"""The data module: it turns a source of images into the loaders of a run, and owns ``channels`` and ``image_size``."""

from __future__ import annotations

import functools
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from medsynth.contracts import Batch, DataDescription, Intensity, counter_seed
from medsynth.data.cautions import cautions
from medsynth.data.reading import SPLITS
from medsynth.data.sampler import BlockSampler, ResumableBatchSampler
from medsynth.data.source_statistics import source_statistics
from medsynth.errors import InputError

log = logging.getLogger(__name__)
_SEARCHED = 4096  # validation images among which those of a class are looked for
_EXAMPLES = {"channels": 1, "image_size": 64, "batch_size": 8, "num_workers": 0, "seed": 0}


class ImageDataset(Protocol):
    """A map-style dataset of ``{"image": float32 (C, H, W) in [-1, 1], "label": int (if any), "index": int}``.

    Attributes:
        endless: samples exist for every index >= 0, each a different image; ``len`` is then the length of an epoch.
        varies: samples exist for every index >= 0, each a different view of image ``index % len``.

    A dataset with ``__getitems__`` builds batches itself.
    """

    endless: bool
    varies: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class Datasets(NamedTuple):
    """Datasets that share no image; neither training nor model selection sees ``test``, which may be None."""

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset | None = None


class Source(DataDescription, Protocol):
    """A source of images. Its description is valid once ``datasets`` has returned."""

    def datasets(self) -> Datasets:
        """Return the datasets.

        Raises:
            InputError: an option or the data's files have to be changed.
        """
        ...


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


class _Loader(DataLoader[Any]):
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


class TrainLoader(_Loader):
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


class ImageDataModule(pl.LightningDataModule):
    """Loaders of real images; batches are ``contracts.Batch``.

    Args:
        source: of the images.
        channels: of every image.
        image_size: height and width of every image, in pixels.
        batch_size: images in a training batch.
        num_workers: processes that load images; 0: the main process loads them.
        seed: of the order of the training images, and of nothing else.
        balance_classes: draw the training images of all classes equally often.

    Raises:
        InputError: one of the numbers is none, as a damaged record of a run may have it.
    """

    def __init__(
        self,
        *,
        source: Source,
        channels: int,
        image_size: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int,
        balance_classes: bool = False,
    ) -> None:
        super().__init__()
        numbers = {"channels": channels, "image_size": image_size, "batch_size": batch_size}
        numbers |= {"num_workers": num_workers, "seed": seed}
        for name, value in numbers.items():
            if not isinstance(value, int):
                raise InputError(
                    f"data.{name}={value} is not a whole number: type one, as data.{name}={_EXAMPLES[name]}."
                )
        self.source = source
        self.channels = channels
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.balance_classes = balance_classes
        self._datasets: Datasets | None = None

    def prepare(self, *, for_training: bool = True) -> None:
        """Build the datasets, once; later calls have no effect.

        Args:
            for_training: refuse a ``batch_size`` of which the training images do not fill one batch.

        Raises:
            InputError: the source has no images, or ``batch_size``, ``channels`` or ``image_size`` do not fit it.
        """
        if self._datasets is not None:
            return
        if self.batch_size < 2:
            raise InputError(f"data.batch_size={self.batch_size} is too small: 2 images or more.")
        datasets = self.source.datasets()
        train = datasets.train
        if for_training and self.batch_size > len(train):
            raise InputError(f"{self.excess_of_batch(len(train))}.")
        _check_shape(train[0], self.channels, self.image_size)
        self._datasets = datasets
        for caution in self.cautions:
            log.warning(caution)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences about few images, few patients and unequal classes, of which numbers mean little."""
        names = [name for name, dataset in zip(SPLITS, self.datasets, strict=True) if dataset is not None]
        sets = [dataset for dataset in self.datasets if dataset is not None]
        labels = {name: getattr(dataset, "labels", None) for name, dataset in zip(names, sets, strict=True)}
        return cautions(
            {name: len(dataset) for name, dataset in zip(names, sets, strict=True)},
            labels={name: own.tolist() for name, own in labels.items() if own is not None},
            class_names=self.class_names,
            patients=getattr(self.source, "patients_of_splits", None),
            given=getattr(self.source, "given_splits", ()),
            balanced=self.balance_classes,
        )

    def excess_of_batch(self, num_train: int) -> str:
        """Say that ``num_train`` images are fewer than a batch, and what to type."""
        if num_train < 2:
            return f"{num_train} training image is too few to train on: add images"
        return (
            f"data.batch_size={self.batch_size} is more than the {num_train} training images: "
            f"type data.batch_size={2 ** (num_train.bit_length() - 1)}, or add images"
        )

    def setup(self, stage: str) -> None:
        """Prepare the datasets; Lightning's hook before fit, validate and test."""
        self.prepare()

    @property
    def datasets(self) -> Datasets:
        """The datasets of the splits, prepared if necessary."""
        self.prepare()
        assert self._datasets is not None
        return self._datasets

    @property
    def train_dataset(self) -> ImageDataset:
        """The training images."""
        return self.datasets.train

    @property
    def val_dataset(self) -> ImageDataset:
        """The validation images."""
        return self.datasets.val

    @property
    def test_dataset(self) -> ImageDataset | None:
        """The test images; None: no images were held out."""
        return self.datasets.test

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty without labels."""
        return self.source.class_names

    @property
    def num_classes(self) -> int:
        """The number of classes; 0: the images have no labels."""
        return len(self.class_names)

    @property
    def intensity(self) -> Intensity:
        """The way back from [-1, 1] to stored or physical values."""
        return self.source.intensity

    @property
    def source_intensity(self) -> Intensity | None:
        """The way back from [-1, 1] to the values of the images to translate; None: there are no targets."""
        own: Intensity | None = getattr(self.source, "source_intensity", None)
        return (own or self.intensity) if self.source_channels else None

    @property
    def source_channels(self) -> int:
        """The number of channels of the images to translate; 0: there are no targets."""
        first = self.train_dataset[0]
        return len(first["image"]) if "target" in first else 0

    @property
    def source_modality(self) -> str:
        """DICOM's code of the images to translate; "" where it is not known, or without targets."""
        return getattr(self.source, "source_modality", "")

    @property
    def masked(self) -> bool:
        """True if the images have a foreground."""
        return "mask" in self.val_dataset[0]

    @property
    def val_paired(self) -> bool:
        """True if the targets of validation and test images show the same anatomy as these."""
        return "target" in self.val_dataset[0] and getattr(self.source, "val_paired", True)

    @functools.cached_property
    def source_statistics(self) -> dict[str, Any] | None:
        """The values of the training images to translate, as ``data.source_statistics`` describes them, or None."""
        intensity = self.source_intensity
        if intensity is None:
            return None
        geometry, normalization = (getattr(self.source, name, None) for name in ("geometry", "of_sources"))
        return source_statistics(
            self.train_dataset,
            intensity,
            modality=self.source_modality,
            geometry=None if geometry is None else geometry.key(),
            normalization=None if normalization is None else normalization.key(),
            neighbors=getattr(self.source, "neighbors", 0),
        )

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimeters from row to row and from column to column; None: not known."""
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
        """A text that is equal for equal training and validation images in the same order and classes."""
        return self.source.content

    @property
    def num_train(self) -> int:
        """The number of training images in an epoch."""
        return len(self.train_dataset)

    @property
    def num_val(self) -> int:
        """The number of validation images."""
        return len(self.val_dataset)

    @property
    def num_test(self) -> int:
        """The number of test images; 0: none are held out."""
        return 0 if self.test_dataset is None else len(self.test_dataset)

    def train_dataloader(self) -> TrainLoader:
        """Return full batches in an order that depends on the seed, from the one after the last trained batch.

        With several processes, each gets an equal share of every batch.

        Raises:
            InputError: ``batch_size`` is not a multiple of the number of processes.
        """
        rank, world_size = self._process()
        if self.batch_size % world_size:
            below = self.batch_size // world_size * world_size or world_size
            raise InputError(
                f"data.batch_size={self.batch_size} cannot be divided among {world_size} processes: it is the batch of "
                f"all processes together, for example {below} or {below + world_size}."
            )
        sampler = ResumableBatchSampler(
            self.num_train,
            self.batch_size,
            seed=self.seed,
            endless=self.train_dataset.endless,
            varies=self.train_dataset.varies,
            labels=self._labels_to_balance(),
            rank=rank,
            world_size=world_size,
        )
        return TrainLoader(
            self.train_dataset, sampler, batches_trained=self._batches_trained, num_workers=self.num_workers
        )

    def _labels_to_balance(self) -> list[int] | None:
        """Return the labels of the training images if all classes are to be drawn equally often."""
        if not self.balance_classes:
            return None
        labels = getattr(self.train_dataset, "labels", None)
        if labels is None or self.train_dataset.endless:
            raise InputError(
                "data.balance_classes=true needs training images with classes: choose data with one folder or label "
                "for each class, or leave the option out."
            )
        return labels.tolist()

    def val_dataloader(self) -> DataLoader:
        """Return all validation images, in order, in larger batches: validation keeps no gradients.

        Several processes take turns; each image occurs once.
        """
        return self._in_order(self.val_dataset, *self._process())

    def test_dataloader(self) -> DataLoader:
        """Return all test images, in order.

        Raises:
            InputError: no images were held out for testing.
        """
        test = self.datasets.test
        if test is None:
            raise InputError("There are no test images: hold some out, for example by data.test_fraction=0.1.")
        return self._in_order(test)

    @property
    def images_are_fixed(self) -> bool:
        """True if a training image of one index is the same in each epoch."""
        return not (self.train_dataset.endless or self.train_dataset.varies)

    def ordered_batches(self) -> DataLoader:
        """Return all training images in the order of their index, once, in batches as large as in validation."""
        return self._in_order(self.train_dataset)

    def calibration_batches(self, count: int) -> list[Batch]:
        """Return ``count`` batches of training images, chosen by the seed.

        The choice is independent of the training order. Small data sets repeat images.
        """
        seed = counter_seed("calibration", self.seed)
        size = min(self.batch_size, self.num_train)  # a preview may have fewer images than a batch
        sampler = ResumableBatchSampler(self.num_train, size, seed=seed, endless=False)
        return [_batch(self.train_dataset, sampler.batch(number)) for number in range(count)]

    def val_batch(self, count: int) -> Batch:
        """Return the first ``count`` validation images, or all of a smaller set, as one batch."""
        return _batch(self.val_dataset, range(min(count, self.num_val)))

    def val_images_of(self, labels: Sequence[int]) -> Tensor:
        """Return validation images, or targets, ``(len(labels), C, H, W)`` of these classes, in order of their index.

        Each occurs once; where a class has no more among the first ``_SEARCHED`` images, its images are black (-1).
        """
        known = getattr(self.val_dataset, "labels", None)
        images = torch.full((len(labels), self.channels, self.image_size, self.image_size), -1.0)
        waiting: dict[int, list[int]] = {}
        for place, label in enumerate(labels):
            waiting.setdefault(int(label), []).append(place)
        for index in range(min(self.num_val, _SEARCHED)):
            if not waiting:
                break
            sample = None if known is not None and int(known[index]) not in waiting else self.val_dataset[index]
            places = None if sample is None else waiting.get(int(sample["label"]))
            if sample is not None and places:
                images[places.pop(0)] = sample.get("target", sample["image"])
                waiting = {label: left for label, left in waiting.items() if left}
        return images

    def _in_order(self, dataset: ImageDataset, rank: int = 0, world_size: int = 1) -> DataLoader:
        batch_size = min(max(self.batch_size, 64), math.ceil(len(dataset) / world_size))  # a batch for each process
        sampler = BlockSampler(len(dataset), batch_size, rank=rank, world_size=world_size)
        return _Loader(dataset, sampler, self.num_workers)

    def _process(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _batches_trained(self) -> int | None:
        """Return the number of batches trained, before a resumed checkpoint too; None: no trainer is attached."""
        if self.trainer is None:
            return None
        # Among Lightning's counters this one counts trained batches: "ready" and "started" include a batch that an
        # interrupt cut short, "completed" lacks the last batch in checkpoints written by on_train_batch_end.
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # pyright: ignore[reportAttributeAccessIssue]


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


def _batch(dataset: ImageDataset, indices: range | list[int]) -> Batch:
    return cast(Batch, default_collate([dataset[index] for index in indices]))


def _check_shape(sample: dict[str, Any], channels: int, image_size: int) -> None:
    """Check an image, or a target and its source, which may have other channels, against the data's options."""
    shape, expected = tuple(sample.get("target", sample["image"]).shape), (channels, image_size, image_size)
    if shape != expected:
        raise InputError(
            f"data.channels={channels} and data.image_size={image_size} mean images of shape {expected}, "
            f"but the data source has images of shape {shape}: change these options or the source."
        )
    source = tuple(sample["image"].shape)
    if source[1:] != expected[1:]:
        raise InputError(
            f"data.image_size={image_size} is the size of source and target, but the data source has source images of "
            f"shape {source}: change this option or the source."
        )
