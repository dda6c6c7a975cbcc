"""The datasets of a source, checked against the options of the data, and what is known of their images."""

from __future__ import annotations

import functools
import logging
from typing import Any

from medsynth.contracts import Intensity
from medsynth.data.cautions import cautions
from medsynth.data.reading import SPLITS
from medsynth.data.source import Datasets, ImageDataset, Source
from medsynth.data.source_statistics import source_statistics
from medsynth.errors import InputError

log = logging.getLogger(__name__)


class DescribedImages:
    """The datasets of a source, prepared when first needed, and their description (``contracts.DataDescription``).

    Args:
        source: of the images.
        channels: of every image.
        image_size: height and width of every image, in pixels.
        batch_size: images in a training batch.
        balance_classes: the training images of all classes are drawn equally often.
    """

    def __init__(
        self, *, source: Source, channels: int, image_size: int, batch_size: int, balance_classes: bool
    ) -> None:
        super().__init__()
        self.source = source
        self.channels = channels
        self.image_size = image_size
        self.batch_size = batch_size
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
        """Sentences about few images, few patients, blocks of slices and unequal classes: numbers mean little."""
        names = [name for name, dataset in zip(SPLITS, self.datasets, strict=True) if dataset is not None]
        sets = [dataset for dataset in self.datasets if dataset is not None]
        labels = {name: getattr(dataset, "labels", None) for name, dataset in zip(names, sets, strict=True)}
        found = cautions(
            {name: len(dataset) for name, dataset in zip(names, sets, strict=True)},
            labels={name: own.tolist() for name, own in labels.items() if own is not None},
            class_names=self.class_names,
            patients=getattr(self.source, "patients_of_splits", None),
            given=getattr(self.source, "given_splits", ()),
            balanced=self.balance_classes,
        )
        return (*found, *getattr(self.source, "split_cautions", ()))

    def excess_of_batch(self, num_train: int) -> str:
        """Say that ``num_train`` images are fewer than a batch, and what to type."""
        if num_train < 2:
            return f"{num_train} training image is too few to train on: add images"
        return (
            f"data.batch_size={self.batch_size} is more than the {num_train} training images: "
            f"type data.batch_size={2 ** (num_train.bit_length() - 1)}, or add images"
        )

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
            bounds=getattr(self.source, "source_bounds", None),
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
    def split_by(self) -> str | None:
        """The unit that stays in one split: "given" by the data, "blocks" of slices, "patient", "image"; or None."""
        return getattr(self.source, "split_by", None)

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

    @property
    def images_are_fixed(self) -> bool:
        """True if a training image of one index is the same in each epoch."""
        return not (self.train_dataset.endless or self.train_dataset.varies)


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
