"""Sets of images for an evaluation: splits of a run's data, generated images, tensors."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import default_collate

import medsynth
from medsynth.contracts import Generator, InputError, counter_seed, noise
from medsynth.data.files import ImageFiles
from medsynth.data.module import ImageDataModule
from medsynth.data.preview import datasets, labels
from medsynth.data.reading import SPLITS
from medsynth.data.source import ImageDataset
from medsynth.metrics.image_set import ImageSet

HELD_OUT = "held_out"  # all images that were not trained on: validation and test images
TOLERANCE = 1e-3  # values that far beyond [-1, 1] are rounding


def shuffled(images: ImageSet, *, most: int | None = None) -> ImageSet:
    """Return the images in random order, ``most`` of them, so that the first ones are a random sample.

    The order does not depend on the run's seed, so that kept features serve all seeds.
    """
    random = np.random.default_rng(counter_seed("evaluate", images.name))
    return images.subset(random.permutation(images.count)[:most])


def parts_of(data: ImageDataModule, split: str) -> dict[str, ImageDataset]:
    """Return the datasets of a prepared data module's split: train, val, test, held_out (the two before) or all.

    Raises:
        InputError: there is no such split.
    """
    if split not in (*SPLITS, HELD_OUT, "all"):
        raise InputError(f"split={split} is unknown: choose train, val, test, held_out or all.")
    there = datasets(data)
    if split == "test" and split not in there:
        raise InputError("split=test is empty: this run held no test images out (data.test_fraction); choose val.")
    names = {"all": tuple(there), HELD_OUT: tuple(name for name in there if name != "train")}.get(split, (split,))
    return {name: there[name] for name in names}


def split_of(data: ImageDataModule, config: DictConfig, split: str, *, of: str = "image") -> ImageSet:
    """Return the images of a split, as ``parts_of`` has them.

    Args:
        data: prepared.
        config: of the run.
        split: its name.
        of: entry of the samples, "target" for those of translations.

    Raises:
        InputError: there is no such split.
    """
    chosen, of_images = parts_of(data, split), labels(data)
    return ImageSet(
        name="training" if split == "train" else "reference",
        count=sum(map(len, chosen.values())),
        read=functools.partial(read_datasets, list(chosen.values()), of=of),
        labels=np.concatenate([of_images[name] for name in chosen]) if of_images else None,
        key={"version": medsynth.__version__, "split": split, "size": data.image_size, **_content(data, config)}
        | ({} if of == "image" else {"of": of}),
        groups=groups_of(data, list(chosen)),
    )


def groups_of(data: ImageDataModule, splits: Sequence[str]) -> np.ndarray | None:
    """Return the patients of the images of splits, one split after the other; None: they are not known."""
    if not isinstance(data.source, ImageFiles):
        return None
    patients = data.source.columns["patient"]
    return patient_groups([patients[row] for split in splits for row in data.source.rows[split]])


def patient_groups(patients: Sequence[str]) -> np.ndarray | None:
    """Return a number for each image, equal for images of one patient; an image of an unknown patient has its own.

    Args:
        patients: hashes in hexadecimal digits, fewer than 16; "" where not known.

    Returns:
        int64 (N,); None: no patient is known.
    """
    if not any(patients):
        return None
    known = [int(patient, 16) if patient else -1 - row for row, patient in enumerate(patients)]
    return np.array(known, dtype=np.int64)


def generated(generator: nn.Module, count: int, *, reference: ImageSet, conditional: bool, seed: int) -> ImageSet:
    """Return generated images; those of a conditional generator have the labels in the reference's proportions."""
    of_images = None
    if conditional and reference.labels is not None:
        of_images = reference.labels
        if count != reference.count:
            of_images = np.sort(of_images)[np.arange(count) * reference.count // count]
    device = next(generator.parameters()).device
    make = cast(Generator, generator)
    seed = counter_seed("generate", seed)

    @torch.inference_mode()
    def read(numbers: Sequence[int]) -> Tensor:
        z = torch.cat([noise(1, make.latent_dim, seed=seed, start=int(number)) for number in numbers])
        chosen = None if of_images is None else torch.as_tensor(of_images[list(numbers)], device=device)
        return make(z.to(device), chosen).float().clamp(-1, 1).cpu()

    return ImageSet("generated", count, read, of_images)


class SourceImages(NamedTuple):
    """All images of one source.

    Attributes:
        images: the images.
        class_names: of their labels; empty: they have none.
        digests: sorted hashes of the images; equal digests mean the same images, whatever their order and names.
        notes: sentences about what was left out, and how the images changed when they were read.
    """

    images: ImageSet
    class_names: tuple[str, ...]
    digests: tuple[str, ...]
    notes: tuple[str, ...] = ()


def tensor_images(name: str, images: Tensor, *, size: int, channels: int) -> SourceImages:
    """Take images ``(N, channels, size, size)`` in [-1, 1] as a source.

    Raises:
        InputError: another shape, or values beyond [-1, 1].
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
        raise InputError(
            f"{name} is a tensor of shape {tuple(images.shape)}, and (N, {channels}, {size}, {size}) is needed: resize "
            "it to the size and channels of the others."
        )
    images = images.detach().cpu().float()
    if images.numel() and bool(images.abs().max() > 1 + TOLERANCE):
        raise InputError(f"{name} has values from {images.min():g} to {images.max():g}: scale the images to [-1, 1].")
    digests = sorted(
        hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).hexdigest() for image in images
    )
    return SourceImages(ImageSet(name, len(images), lambda numbers: images[list(numbers)]), (), tuple(digests))


def read_datasets(parts: Sequence[ImageDataset], numbers: Sequence[int], *, of: str = "image") -> Tensor:
    """Read images, or another entry of the samples, by number from datasets that follow one another."""
    return read_batch(parts, numbers)[of]


def read_batch(parts: Sequence[ImageDataset], numbers: Sequence[int]) -> dict[str, Tensor]:
    """Read samples by number from datasets that follow one another, as one batch."""
    starts = np.cumsum([0, *map(len, parts)])
    which = np.searchsorted(starts, np.asarray(numbers), side="right") - 1
    if len(set(which.tolist())) == 1 and hasattr(parts[which[0]], "__getitems__"):
        return cast(Any, parts[which[0]]).__getitems__([int(number) - int(starts[which[0]]) for number in numbers])
    return default_collate(
        [parts[part][int(number) - int(starts[part])] for part, number in zip(which, numbers, strict=True)]
    )


def _content(data: ImageDataModule, config: DictConfig) -> dict[str, object]:
    """Describe what the images of all splits depend on."""
    if isinstance(data.source, ImageFiles):
        rows = json.dumps({name: list(map(int, rows)) for name, rows in data.source.rows.items()})
        digest = hashlib.blake2b(rows.encode(), digest_size=16).hexdigest()
        return {"store": data.source.store.folder.name, "rows": digest}
    if "source" not in config.data:
        return {"content": data.content, "splits": [len(part) for part in datasets(data).values()]}
    return {"source": OmegaConf.to_container(config.data.source, resolve=True)}
