"""The data module: it turns a source of images into the loaders of a run, and owns ``channels`` and ``image_size``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from medsynth.contracts import Batch, counter_seed
from medsynth.data.described_images import DescribedImages
from medsynth.data.loaders import Loader, TrainLoader
from medsynth.data.sampler import BlockSampler, ResumableBatchSampler
from medsynth.data.source import ImageDataset, Source
from medsynth.errors import InputError

_SEARCHED = 4096  # validation images among which those of a class are looked for
_EXAMPLES = {"channels": 1, "image_size": 64, "batch_size": 8, "num_workers": 0, "seed": 0}


class ImageDataModule(DescribedImages, pl.LightningDataModule):
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
        numbers = {"channels": channels, "image_size": image_size, "batch_size": batch_size}
        numbers |= {"num_workers": num_workers, "seed": seed}
        for name, value in numbers.items():
            if not isinstance(value, int):
                raise InputError(
                    f"data.{name}={value} is not a whole number: type one, as data.{name}={_EXAMPLES[name]}."
                )
        super().__init__(
            source=source,
            channels=channels,
            image_size=image_size,
            batch_size=batch_size,
            balance_classes=balance_classes,
        )
        self.num_workers = num_workers
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Prepare the datasets; Lightning's hook before fit, validate and test."""
        self.prepare()

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
        return Loader(dataset, sampler, self.num_workers)

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


def _batch(dataset: ImageDataset, indices: range | list[int]) -> Batch:
    return cast(Batch, default_collate([dataset[index] for index in indices]))
