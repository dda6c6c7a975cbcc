"""The data of a training: batches, intensities, descriptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol, TypedDict

from torch import Tensor


class _Batch(TypedDict):
    image: Tensor
    index: Tensor


class Batch(_Batch, total=False):
    """One batch of real images, as the loaders of the data yield it."""

    label: Tensor
    target: Tensor
    mask: Tensor


@dataclasses.dataclass(frozen=True)
class Intensity:
    """The linear map from [-1, 1] back to physical units: -1 is ``low``, 1 is ``high``."""

    low: float
    high: float
    unit: str

    def to_physical(self, images: Tensor) -> Tensor:
        """Map images in [-1, 1] to ``unit``."""
        return self.low + (images + 1) / 2 * (self.high - self.low)


class DataDescription(Protocol):
    """Properties of prepared images, of a source as of the data module that loads them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty without labels."""
        ...

    @property
    def intensity(self) -> Intensity:
        """The map from [-1, 1] back to stored or physical values; of data with targets the targets'."""
        ...

    @property
    def source_intensity(self) -> Intensity | None:
        """The map from [-1, 1] back to the values of the images to translate; None: the data has no targets."""
        ...

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimeters from row to row and from column to column; None where unknown."""
        ...

    @property
    def modality(self) -> str:
        """DICOM's code (CT, MR, ...); "" where unknown."""
        ...

    @property
    def description(self) -> str:
        """One line about the data, for people."""
        ...

    @property
    def content(self) -> str:
        """A text that is equal where training and validation images are, in the same order and classes."""
        ...


class TrainingData(DataDescription, Protocol):
    """The data of a training, prepared. ``data.module.ImageDataModule`` implements it."""

    @property
    def split_by(self) -> str | None:
        """The unit that stays in one split: "given" by the data, "blocks" of slices, "patient", "image"; or None."""
        ...

    @property
    def num_train(self) -> int:
        """Training images in an epoch."""
        ...

    @property
    def num_val(self) -> int:
        """Validation images, on which the best generator is chosen."""
        ...

    @property
    def num_test(self) -> int:
        """Test images, which the training does not see; 0: none."""
        ...

    @property
    def source_channels(self) -> int:
        """Channels of the images to translate; 0: the data has no targets."""
        ...

    @property
    def images_are_fixed(self) -> bool:
        """True where the training image of an index is the same in each epoch."""
        ...

    def train_dataloader(self) -> Iterable[Batch]:
        """Return the training batches of an epoch, this process's share of them."""
        ...

    def val_dataloader(self) -> Iterable[Batch]:
        """Return all validation images in order, this process's share of them."""
        ...

    def calibration_batches(self, count: int) -> list[Batch]:
        """Return up to ``count`` batches of training images, chosen by the seed."""
        ...

    def ordered_batches(self) -> Iterable[Batch]:
        """Return all training images once, in the order of their index."""
        ...

    def val_batch(self, count: int) -> Batch:
        """Return the first ``count`` validation images as one batch, or all where there are fewer."""
        ...

    def val_images_of(self, labels: Sequence[int]) -> Tensor:
        """Return validation images (len(labels), C, H, W) of these classes, each once; -1 where a class has no more."""
        ...
