"""Folders and zip archives of images, read as ``medsynth evaluate`` compares them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import medsynth
from medsynth.contracts import InputError
from medsynth.data.captured_warnings import captured_warnings
from medsynth.data.csv import GeneratedTable
from medsynth.data.errors import Unreadable
from medsynth.data.files import ImageFiles
from medsynth.data.prepared import PreparedImages
from medsynth.data.reading import Reader
from medsynth.data.tree import require_images
from medsynth.evaluation.image_sets import SourceImages, patient_groups, read_datasets
from medsynth.metrics.image_set import ImageSet
from medsynth.untrusted_files import load_json

PROBED = 16  # files that are read to learn size and channels of a folder


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A folder or archive of images that are not yet prepared.

    Attributes:
        root: its path.
        reader: makes a reader for ``root``.
        shape: the most frequent height and width, in pixels.
        channels: the highest number of channels.
    """

    root: str
    reader: Callable[[str | None], Reader]
    shape: tuple[int, int]
    channels: int

    @property
    def side(self) -> int:
        """The shorter side, in pixels."""
        return min(self.shape)


def open_folder(option: str, root: str, config: DictConfig) -> ImageFolder:
    """Open ``root`` as ``config.data`` says or, if ``medsynth generate`` wrote it, as that wrote it.

    Raises:
        InputError: it does not exist, was written in a format that is not read here, or holds no image.
    """
    path = require_images(option, root)
    reader, known = instantiate(config.data.reader), None
    if (path / "generate.json").is_file():
        record = load_json(path / "generate.json")
        form = record.get("format") if isinstance(record, dict) else None
        if form not in ("png8", "png16"):
            raise InputError(f"{option}={root} was written with format={form}: generate it again with format=png8.")
        labeled = (path / "table.csv").is_file()
        if labeled:  # partial: Hydra takes the class itself, a dataclass, for a configuration
            root, reader = str(path), functools.partial(GeneratedTable)
        else:
            root = str(path / "images")
        known = _recorded(record)
    opened = reader(root)
    shapes: list[tuple[int, ...]] = []
    for record in opened.scan().records[:PROBED]:
        with contextlib.suppress(Unreadable):  # whether one damaged file ends the evaluation is data.on_error's choice
            shapes += [image.values.shape for image in opened.read(record)[0]]
    if not shapes:
        raise InputError(f"{option}={root} holds no image that can be read: give a folder of images.")
    if known is not None:
        return ImageFolder(root, reader, (known[0], known[0]), known[1])
    shape = Counter((shape[1], shape[2]) for shape in shapes).most_common(1)[0][0]
    return ImageFolder(root, reader, shape, max(shape[0] for shape in shapes))


def _recorded(record: dict[str, Any]) -> tuple[int, int] | None:
    """Return size and channels of the images from the content of generate.json; None: older ones do not have them."""
    size, channels = record.get("image_size"), record.get("channels")
    if not (isinstance(size, int) and isinstance(channels, int)) or min(size, channels) < 1:
        return None
    return size, channels


def folder_images(name: str, folder: ImageFolder, config: DictConfig) -> SourceImages:
    """Prepare all images of a folder as ``config.data`` says, without its splits and random views.

    What a training would warn of is in the notes.
    """
    options = cast(dict[str, Any], OmegaConf.to_container(config.data, resolve=True))
    del options["reader"]
    options |= {"root": folder.root, "flip": None, "rotate": 0, "random_crop": None, "batch_size": 2}
    source: ImageFiles = instantiate({**options, "_convert_": "all"}, reader=folder.reader).source
    with captured_warnings() as warnings:
        source.report.log_images()
    column = source.labels
    dataset = PreparedImages(source.store, range(len(source.store)), labels=column, size=source.image_size)
    key = {"version": medsynth.__version__, "store": source.store.folder.name, "size": source.image_size}
    labels = None if column is None else np.asarray(column)
    groups = patient_groups(source.columns["patient"])
    images = ImageSet(name, len(dataset), functools.partial(read_datasets, [dataset]), labels, key, groups)
    notes = tuple(f"{name}=: {warning.getMessage()}" for warning in warnings)
    return SourceImages(images, source.class_names, tuple(sorted(source.columns["digest"])), notes)
