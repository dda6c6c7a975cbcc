"""The source of images from files: read, prepared, cached and split. Identifiers of people go no further."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from medsynth.contracts import Intensity
from medsynth.data.cache import Columns, Store
from medsynth.data.file_cache import FileCache
from medsynth.data.file_report import FileReport
from medsynth.data.geometry import Geometry, RandomViews
from medsynth.data.intensity import Normalization
from medsynth.data.kept_images import KeptImages
from medsynth.data.manifest import Manifest
from medsynth.data.module import ImageDataModule
from medsynth.data.neighbors import neighbors_of_splits
from medsynth.data.pairs import PairOptions
from medsynth.data.prepared import PreparedImages
from medsynth.data.preparing import Preparation
from medsynth.data.reading import Reader
from medsynth.data.source import Datasets
from medsynth.data.split import SplitOptions
from medsynth.errors import InputError


def image_files(
    *,
    root: str | None,
    reader: Callable[[str | None], Reader],
    channels: int,
    image_size: int,
    batch_size: int,
    num_workers: int,
    seed: int,
    balance_classes: bool = False,
    **options: Any,
) -> ImageDataModule:
    """Build the data module of image files from flat options, so that people type ``data.window=lung``.

    ``options`` are the fields with defaults of Normalization, Geometry, RandomViews, SplitOptions and Preparation,
    which conf/data/base/files.yaml describes, and of pairs those of PairOptions (conf/data/base/pairs.yaml).
    """
    views = taken(RandomViews, options, size=image_size)
    source = ImageFiles(
        root,
        reader=reader,
        normalization=taken(Normalization, options),
        pairs=taken(PairOptions, options),
        geometry=taken(Geometry, options, size=views.prepared_size, channels=channels),
        views=views,
        splits=taken(SplitOptions, options),
        preparation=taken(Preparation, options),
        seed=seed,
    )
    if options:
        raise InputError(f"data.{next(iter(options))} is not an option of image files: see medsynth data --help.")
    return ImageDataModule(
        source=source,
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        balance_classes=balance_classes,
    )


def taken(group: type, options: dict[str, Any], **others: Any) -> Any:
    """Build a group of options from those that it knows, and remove these from ``options``."""
    names = [field.name for field in dataclasses.fields(group) if field.name in options]
    return group(**{name: options.pop(name) for name in names}, **others)


class ImageFiles:
    """A source of images that a reader finds in files; see medsynth.data.source.Source.

    Args:
        root: the path that the reader reads.
        reader: root -> Reader.
        normalization: measured values -> [-1, 1].
        pairs: the same of the sources of pairs, and how they are checked.
        geometry: raw images of any size -> prepared images.
        views: random transforms of training images; they also give the size of all images.
        splits: how images are held out.
        preparation: how files are read and cached.
        seed: of the random transforms.
    """

    def __init__(
        self,
        root: str | None,
        *,
        reader: Callable[[str | None], Reader],
        normalization: Normalization,
        pairs: PairOptions,
        geometry: Geometry,
        views: RandomViews,
        splits: SplitOptions,
        preparation: Preparation,
        seed: int,
    ) -> None:
        self.root = root
        self.reader = reader
        self.normalization = normalization
        self.pairs = pairs
        self.of_sources = pairs.normalization(normalization)
        self.geometry = geometry
        self.views = views
        self.splits = splits
        self.preparation = preparation
        self.seed = seed

    def datasets(self) -> Datasets:
        """Return training, validation and test images, prepared now unless the cache has them.

        Raises:
            InputError: there is nothing to read, a file cannot be read, or the files do not fit the options.
        """
        self.report.log_all()
        rows, labels = self.rows, self.labels
        near = neighbors_of_splits(self.images, self.pairs.neighbors, root=self.root)
        size, views = self.image_size, self.views if self.views.active else None
        train = PreparedImages(
            self.store, rows["train"], labels=labels, size=size, views=views, seed=self.seed, neighbors=near["train"]
        )
        val, test = (
            PreparedImages(self.store, rows[name], labels=labels, size=size, neighbors=near[name])
            for name in ("val", "test")
        )
        return Datasets(train, val, test if len(test) else None)

    @property
    def neighbors(self) -> int:
        """The number of slices on either side of a source that are channels beside it."""
        return self.pairs.neighbors

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.views.size

    @property
    def labels(self) -> list[int] | None:
        """Labels of all rows of the store; None: no labels."""
        return self.columns["label"] if self.class_names else None

    @property
    def content(self) -> str:
        """A digest of all images' values, as they are in the files, and of their classes; see Source."""
        return self.images.content

    @cached_property
    def opened(self) -> Reader:
        """The reader of ``root``."""
        return self.reader(self.root)

    @cached_property
    def store(self) -> Store:
        """The prepared images, from the cache or prepared now."""
        return FileCache(
            root=self.root,
            reader=self.opened,
            geometry=self.geometry,
            normalization=self.normalization,
            of_sources=self.of_sources,
            unregistered=self.pairs.unregistered,
            splits=self.splits,
            preparation=self.preparation,
        ).open()

    @property
    def manifest(self) -> Manifest:
        """The record of the prepared data set as a whole."""
        return self.store.manifest

    @property
    def columns(self) -> Columns:
        """Values for each row of the store."""
        return self.store.columns

    @cached_property
    def images(self) -> KeptImages:
        """The images that are used, and their splits."""
        return KeptImages(self.store, self.splits, self.opened.tree.names)

    @property
    def rows(self) -> dict[str, list[int]]:
        """Split name -> rows of the store."""
        return self.images.rows

    @property
    def report(self) -> FileReport:
        """The sentences for people about the images."""
        return FileReport(
            tree=self.opened.tree,
            images=self.images,
            geometry=self.geometry,
            normalization=self.normalization,
            of_sources=self.of_sources,
            show_paths=self.preparation.show_paths,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty without labels."""
        return tuple(self.manifest["class_names"])

    @property
    def intensity(self) -> Intensity:
        """The way back from [-1, 1]."""
        return Intensity(**self.manifest["intensity"])

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimeters from row to row and from column to column, the median of the images; None: not known."""
        spacing = self.manifest["spacing"]
        return None if spacing is None else (spacing[0], spacing[1])

    @property
    def source_intensity(self) -> Intensity | None:
        """The way back from [-1, 1] for the sources of pairs; None without pairs."""
        source = self.manifest["source"]
        return None if source is None else Intensity(**source["intensity"])

    @property
    def source_bounds(self) -> list[float] | None:
        """The measured values of sources of pairs that became -1 and 1, before an equalization; None: not known."""
        source = self.manifest["source"]
        return None if source is None else source.get("bounds")

    @property
    def modality(self) -> str:
        """DICOM's code; "" where it is not known."""
        return self.manifest["modality"]

    @property
    def source_modality(self) -> str:
        """DICOM's code of the sources of pairs; "" where it is not known."""
        source = self.manifest["source"]
        return "" if source is None else source["modality"]

    @property
    def description(self) -> str:
        """One phrase about the data, for people; with the folder's name only where ``show_paths`` allows it."""
        format_name = type(self.opened).__name__
        if self.preparation.show_paths:
            format_name += f" {Path(self.root or '').expanduser().resolve().name}"
        classes = f"{count} class{'es' * (count > 1)}" if (count := len(self.class_names)) else "no classes"
        patients = len(set(self.columns["patient"]) - {""})
        left_out = sum(reason["count"] for reason in self.manifest["left_out"])
        return (
            f"{format_name}: {len(self.store):,} images, {classes}"
            + (f", {patients:,} patient{'s' if patients > 1 else ''}" if patients else "")
            + (", contiguous blocks of slices held out" if self.images.blocks else "")
            + (f" ({left_out:,} files or parts of files left out)" if left_out else "")
        )

    @property
    def patients_of_splits(self) -> dict[str, int] | None:
        """The number of patients in each split; None: images are not split by patient."""
        return self.images.patients_of_splits

    @property
    def split_by(self) -> str:
        """The unit that stays in one split: "given" by the data, "blocks" of slices, "patient" or "image"."""
        return self.images.split_by

    @property
    def split_cautions(self) -> tuple[str, ...]:
        """Sentences about what values of the held-out images mean."""
        blocks = self.images.blocks
        return (blocks.sentence(self.splits.block_gap),) if blocks else ()

    @property
    def given_splits(self) -> set[str]:
        """The names of the splits that the data gives."""
        return self.images.given_splits

    @property
    def roles(self) -> str:
        """The sentence about what was taken for class, patient and split."""
        return self.report.roles

    @property
    def role_doubts(self) -> list[str]:
        """The sentences about what these may be instead, and about patients who are not kept together."""
        return self.report.role_doubts

    def file_name(self, row: int) -> str:
        """Return the name of a row's file below the root, or its number where names are not shown."""
        number = self._file_numbers[row]
        return self.opened.tree.names[number] if self.preparation.show_paths else f"file {number + 1}"

    @cached_property
    def _file_numbers(self) -> list[int]:
        return self.columns["file_number"]
