"""The source of unpaired sets for translation: images of one kind and of another, of which none belong together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from medsynth.contracts import Intensity
from medsynth.data.dicom.reader import Dicom
from medsynth.data.errors import DataError, check_choice
from medsynth.data.files import ImageFiles, taken
from medsynth.data.geometry import Geometry, RandomViews
from medsynth.data.image_folder import ImageFolder
from medsynth.data.intensity import Normalization
from medsynth.data.module import ImageDataModule
from medsynth.data.nifti import Nifti
from medsynth.data.pairs import PairOptions, SourceNormalization
from medsynth.data.preparing import Preparation
from medsynth.data.reading import SPLITS, Reader, reader_options
from medsynth.data.source import Datasets
from medsynth.data.split import SplitOptions
from medsynth.data.tree import Tree, open_tree, require_images
from medsynth.data.unpaired_images import UnpairedImages
from medsynth.errors import InputError

log = logging.getLogger(__name__)
EXAMPLE = "data=unpaired_folders data.root=/path/to/sources data.reader.target_root=/path/to/targets"
FORMATS: dict[str, Callable[[str | None], Reader]] = {
    "image_folder": partial(ImageFolder, class_level=None),
    "dicom": Dicom,
    "nifti": Nifti,
}


@dataclasses.dataclass
class UnpairedFolders:
    """Two folders or archives of images, each read by a reader of its own; see conf/data/unpaired_folders.yaml.

    Raises:
        InputError: an option has an impossible value, or a folder does not exist.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    format: str = "image_folder"
    source: str = "source"
    target: str = "target"
    target_root: str | None = None

    def __post_init__(self) -> None:
        check_choice("data.reader.format", self.format, FORMATS)
        self.tree: Tree = open_tree(self.root, example=EXAMPLE)
        self.roots: tuple[str, str] = (str(self.root), str(self.target_root))
        if self.target_root is None:
            self.roots = self._below("source", self.source), self._below("target", self.target)
        else:
            require_images("data.reader.target_root", self.target_root)
        if len({Path(root).expanduser().resolve() for root in self.roots}) < 2:
            raise InputError("The sources and the targets are of one folder: name two, by data.reader.target_root=.")

    def readers(self) -> tuple[Callable[[str | None], Reader], Callable[[str | None], Reader]]:
        """Return what opens the sources and the targets; ``roots`` are their places."""
        return FORMATS[self.format], FORMATS[self.format]

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _below(self, option: str, folder: str) -> str:
        path = Path(str(self.root)).expanduser() / folder
        if not path.is_dir():
            raise DataError(
                f"data.reader.{option}={folder} is no folder in data.root={self.root}: name the folders of the sources "
                "and of the targets below it, or the place of the targets by data.reader.target_root=."
            )
        return str(path)


def unpaired_files(
    *,
    root: str | None,
    reader: Callable[[str | None], UnpairedFolders],
    channels: int,
    image_size: int,
    batch_size: int,
    num_workers: int,
    seed: int,
    **options: Any,
) -> ImageDataModule:
    """Build the data module of unpaired sets from flat options, as ``files.image_files`` does.

    The options of both sides are the same but for the intensities (``PairOptions``).
    """
    views = taken(RandomViews, options, size=image_size)
    normalization, pairs = taken(Normalization, options), taken(PairOptions, options)
    shared = {
        "geometry": taken(Geometry, options, size=views.prepared_size, channels=channels),
        "views": views,
        "splits": taken(SplitOptions, options),
        "preparation": taken(Preparation, options),
    }
    balanced = options.pop("balance_classes", False)
    if balanced or options:
        name = "balance_classes" if balanced else next(iter(options))
        raise InputError(f"data.{name} is not an option of unpaired sets: see medsynth data --help.")
    return ImageDataModule(
        source=UnpairedFiles(root, reader=reader, normalization=normalization, pairs=pairs, seed=seed, **shared),
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
    )


class UnpairedFiles:
    """A source (``data.source.Source``) of two ``ImageFiles``, each prepared, split and normalized by itself.

    Args:
        root: of the reader.
        reader: root -> the two folders.
        normalization: of the targets.
        pairs: what differs for the sources.
        seed: of the random views and of the targets that are drawn.
        shared: geometry, views, splits and preparation of both sides.
    """

    val_paired = False
    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | None,
        *,
        reader: Callable[[str | None], UnpairedFolders],
        normalization: Normalization,
        pairs: PairOptions,
        seed: int,
        **shared: Any,
    ) -> None:
        self.root, self.reader, self.normalization, self.seed = root, reader, normalization, seed
        self.of_sources: SourceNormalization = pairs.normalization(normalization)
        self.geometry: Geometry = shared["geometry"]
        self._views: RandomViews = shared.pop("views")
        self._shared = shared

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self._views.size

    @property
    def views(self) -> RandomViews:
        """Random transforms of the training images of both sides, each its own."""
        return self._views

    @views.setter
    def views(self, views: RandomViews) -> None:
        self._views = views
        for side in self.sides:
            side.views = views

    @cached_property
    def sides(self) -> tuple[ImageFiles, ImageFiles]:
        """The sources and the targets."""
        folders = self.reader(self.root)
        both = zip(folders.roots, folders.readers(), (self.of_sources, self.normalization), strict=True)
        sources, targets = (
            ImageFiles(
                root,
                reader=opened,
                normalization=normalization,
                pairs=PairOptions(),
                views=self._views,
                seed=self.seed,
                **self._shared,
            )
            for root, opened, normalization in both
        )
        return sources, targets

    def datasets(self) -> Datasets:
        """Return training, validation and test images with targets of the same split; see Source."""
        sources, targets = (side.datasets() for side in self.sides)
        self._report_patients()
        test = None
        if sources.test is not None and targets.test is not None:
            test = UnpairedImages(sources.test, targets.test, seed=self.seed, varies=False)
        return Datasets(
            UnpairedImages(sources.train, targets.train, seed=self.seed),
            UnpairedImages(sources.val, targets.val, seed=self.seed, varies=False),
            test,
        )

    def _report_patients(self) -> None:
        """Warn of patients who are trained on as sources and held out as targets, or the reverse."""
        of_sides = [
            {name: {side.columns["patient"][row] for row in side.rows[name]} - {""} for name in SPLITS}
            for side in self.sides
        ]
        crossed = set[str]()
        for one, other in (of_sides, of_sides[::-1]):
            crossed |= one["train"] & (other["val"] | other["test"])
        if crossed:
            log.warning(
                "%d patients are in the training images of one side and in the held-out images of the other: what is "
                "measured on these is too good.",
                len(crossed),
            )

    @property
    def intensity(self) -> Intensity:
        """The way back from [-1, 1] of the targets."""
        return self.sides[1].intensity

    @property
    def source_intensity(self) -> Intensity:
        """The way back from [-1, 1] of the sources."""
        return self.sides[0].intensity

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimeters from row to row and from column to column of the sources; None: not known."""
        return self.sides[0].spacing

    @property
    def modality(self) -> str:
        """DICOM's code of the targets; "" where it is not known."""
        return self.sides[1].modality

    @property
    def source_modality(self) -> str:
        """DICOM's code of the sources; "" where it is not known."""
        return self.sides[0].modality

    @property
    def split_by(self) -> str | None:
        """The unit that stays in one split of both sides, see ``ImageFiles.split_by``; None: not the same."""
        sources, targets = (side.split_by for side in self.sides)
        return sources if sources == targets else None

    @property
    def split_cautions(self) -> tuple[str, ...]:
        """Sentences about what values of the held-out images mean."""
        return tuple(dict.fromkeys(sentence for side in self.sides for sentence in side.split_cautions))

    @property
    def description(self) -> str:
        """One phrase about the data, for people."""
        return f"unpaired: {self.sides[0].description} to {self.sides[1].description}"

    @property
    def content(self) -> str:
        """A text that is equal for equal images on both sides; see Source."""
        return f"{self.sides[0].content} {self.sides[1].content}"
