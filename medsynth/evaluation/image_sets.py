"""The images that ``medsynth evaluate`` compares: splits of a run's data, what its generator makes, folders."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import medsynth
from medsynth.contracts import InputError, counter_seed, noise
from medsynth.data.csv import Csv
from medsynth.data.files import ImageFiles
from medsynth.data.module import ImageDataModule, ImageDataset
from medsynth.data.prepared import PreparedImages
from medsynth.data.preview import datasets, labels
from medsynth.data.reading import SPLITS, Reader
from medsynth.metrics.image_set import ImageSet

PROBED = 16  # files by whose pictures size and channels of a folder are known


def shuffled(images: ImageSet, *, most: int | None = None) -> ImageSet:
    """The images in random order, ``most`` of them: then the first ones are a random part.

    The order does not depend on the run's seed, so that kept features serve all seeds.
    """
    random = np.random.default_rng(counter_seed("evaluate", images.name))
    return images.subset(random.permutation(images.count)[:most])


def split_of(data: ImageDataModule, config: DictConfig, split: str) -> ImageSet:
    """The images of a prepared data module's split: train, val, test or all.

    Raises:
        InputError: there is no such split.
    """
    if split not in (*SPLITS, "all"):
        raise InputError(f"split={split} is unknown: choose train, val, test or all.")
    there = datasets(data)
    if split == "test" and split not in there:
        raise InputError("split=test is empty: this run held no test images out (data.test_fraction); choose val.")
    chosen = there if split == "all" else {split: there[split]}
    of_images = labels(data)
    return ImageSet(
        name="training" if split == "train" else "reference",
        count=sum(map(len, chosen.values())),
        read=functools.partial(_read, list(chosen.values())),
        labels=np.concatenate([of_images[name] for name in chosen]) if of_images else None,
        key={"version": medsynth.__version__, "split": split, "size": data.image_size, **_content(data, config)},
    )


def generated(generator: nn.Module, count: int, *, reference: ImageSet, conditional: bool, seed: int) -> ImageSet:
    """What a generator makes of noise; a conditional one with the labels in the reference's proportions."""
    of_images = None
    if conditional and reference.labels is not None:
        of_images = reference.labels
        if count != reference.count:
            of_images = np.sort(of_images)[np.arange(count) * reference.count // count]
    device = next(generator.parameters()).device
    seed = counter_seed("generate", seed)

    @torch.inference_mode()
    def read(numbers: Sequence[int]) -> Tensor:
        z = torch.cat([noise(1, generator.latent_dim, seed=seed, start=int(number)) for number in numbers])
        chosen = None if of_images is None else torch.as_tensor(of_images[list(numbers)], device=device)
        return generator(z.to(device), chosen).float().clamp(-1, 1).cpu()

    return ImageSet("generated", count, read, of_images)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder or archive of images, not yet prepared: how to read it, and what its pictures are like."""

    root: str
    reader: Callable[[str | None], Reader]
    side: int
    channels: int


def open_folder(option: str, root: str, config: DictConfig) -> Folder:
    """What lies at ``root``, read as ``data=`` says or, if ``medsynth generate`` made it, as that wrote it.

    Raises:
        InputError: it is not there, was written in a format that is not read here, or holds no image.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise InputError(f"{option}={root} does not exist: give a folder or a zip archive of images.")
    reader = instantiate(config.data.reader)
    if (path / "generate.json").is_file():
        form = json.loads((path / "generate.json").read_text())["format"]
        if form not in ("png8", "png16"):
            raise InputError(f"{option}={root} was written with format={form}: generate it anew with format=png8.")
        labeled = (path / "table.csv").is_file()
        root, reader = (str(path), Csv) if labeled else (str(path / "images"), reader)
    opened = reader(root)
    records = opened.scan().records[:PROBED]
    shapes = [image.values.shape for record in records for image in opened.read(record)[0]]
    if not shapes:
        raise InputError(f"{option}={root} holds no image that can be read.")
    side = Counter(min(shape[1:]) for shape in shapes).most_common(1)[0][0]
    return Folder(root, reader, side, max(shape[0] for shape in shapes))


def folder_images(name: str, folder: Folder, config: DictConfig) -> tuple[ImageSet, ImageFiles]:
    """All images of a folder, prepared as ``config.data`` says but for its splits and views."""
    options = OmegaConf.to_container(config.data, resolve=True)
    del options["reader"]
    options |= {"root": folder.root, "flip": None, "rotate": 0, "random_crop": None, "batch_size": 2}
    source = instantiate({**options, "_convert_": "all"}, reader=folder.reader).source
    column = source.labels
    dataset = PreparedImages(source.store, range(len(source.store)), labels=column, size=source.image_size)
    key = {"version": medsynth.__version__, "store": source.store.folder.name, "size": source.image_size}
    of_images = None if column is None else np.asarray(column)
    return ImageSet(name, len(dataset), functools.partial(_read, [dataset]), of_images, key), source


def same_images(first: ImageFiles, second: ImageFiles) -> bool:
    """Whether two folders hold the same prepared images, whatever their names."""
    return sorted(first.columns["digest"]) == sorted(second.columns["digest"])


def _read(parts: list[ImageDataset], numbers: Sequence[int]) -> Tensor:
    """Images of datasets that follow one another."""
    starts = np.cumsum([0, *map(len, parts)])
    which = np.searchsorted(starts, np.asarray(numbers), side="right") - 1
    if len(set(which.tolist())) == 1 and hasattr(parts[which[0]], "__getitems__"):
        return parts[which[0]].__getitems__([int(number) - int(starts[which[0]]) for number in numbers])["image"]
    return torch.stack(
        [parts[part][int(number) - int(starts[part])]["image"] for part, number in zip(which, numbers, strict=True)]
    )


def _content(data: ImageDataModule, config: DictConfig) -> dict[str, object]:
    """What the images of all splits depend on."""
    if isinstance(data.source, ImageFiles):
        rows = json.dumps({name: list(map(int, rows)) for name, rows in data.source.rows.items()})
        digest = hashlib.blake2b(rows.encode(), digest_size=16).hexdigest()
        return {"store": data.source.store.folder.name, "rows": digest}
    return {"source": OmegaConf.to_container(config.data.source, resolve=True)}
