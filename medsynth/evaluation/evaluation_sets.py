"""The two sides of an evaluation: a run's generator and its data, or two sets of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from medsynth.contracts import InputError
from medsynth.data.module import ImageDataModule
from medsynth.evaluation.folders import ImageFolder, folder_images, open_folder
from medsynth.evaluation.image_sets import HELD_OUT, SourceImages, generated, shuffled, split_of, tensor_images
from medsynth.evaluation.opened_run import open_run
from medsynth.evaluation.translations import (
    PairedEvaluation,
    PairedResult,
    check_same_pairs,
    is_translation,
    name_of,
    task_of,
    translations,
)
from medsynth.metrics.image_set import ImageSet
from medsynth.runs.existing import named_folders

IMAGENET = {"pretrained", "packaged"}  # choices of weights that were trained on it
OTHER_IMAGENET = "tf_efficientnet_lite0"  # packaged too: measures a discriminator on the network of extractor=imagenet
Images = str | Path | Tensor  # a folder or zip archive, or images (N, C, H, W) in [-1, 1]


class EvaluationSets(NamedTuple):
    """Real and generated images of one size, and where they come from.

    Attributes:
        real: the reference, in random order.
        fake: the generated images.
        training: real images apart from the reference, in random order; None: there are none.
        class_names: of the labels of all sets; empty: they have none.
        sources: descriptions of ``real`` and ``fake`` for people.
        notes: sentences about what may bias the measures.
        image_size: height and width in pixels.
        channels: their number.
        split: of the run's data that the reference is; None: it is not of a run.
        selected: the generator was chosen as the best on images of the reference.
        patients: number of people that the reference is of; None: not known.
        paired: errors of translations against their targets; None: there are no pairs.
    """

    real: ImageSet
    fake: ImageSet
    training: ImageSet | None
    class_names: tuple[str, ...]
    sources: tuple[str, str]
    notes: tuple[str, ...]
    image_size: int
    channels: int
    split: str | None = None
    selected: bool = False
    patients: int | None = None
    paired: PairedResult | None = None


def of_run(config: DictConfig, device: torch.device) -> EvaluationSets:
    """Compare the images of a run's generator with a split of the run's data.

    Those of a translation are the translations of the split's sources, compared with its targets.

    Raises:
        InputError: no run, generator, checkpoint or split of that name.
    """
    trained, data, generator, path = open_run(Path(config.run), config, device, translators=True)
    translates = is_translation(trained)
    if config.get("against") and not translates:
        raise InputError("against= compares translations, and run= makes images from noise: leave it out.")
    split = config.split or ("val" if data.test_dataset is None else "test")
    of = "target" if translates else "image"
    real = shuffled(split_of(data, trained, split, of=of))
    apart = split in ("val", "test", HELD_OUT) and data.num_train > 1
    training = shuffled(split_of(data, trained, "train", of=of), most=config.max_training) if apart else None
    selected = split in ("val", HELD_OUT, "all") and (not config.checkpoint or path.stem == "best")
    count = config.num_samples or real.count
    if translates:
        fake = translations(generator, data, split, seed=config.seed, count=config.num_samples)
    else:
        fake = generated(generator, count, reference=real, conditional=trained.num_classes > 0, seed=config.seed)
    return EvaluationSets(
        real,
        fake,
        training,
        data.class_names,
        sources=(f"{data.description}, split {split}", str(path)),
        notes=(*_selection_notes(data, selected), *_split_notes(data), *_bias_notes(config, trained)),
        image_size=trained.data.image_size,
        channels=trained.data.channels,
        split=split,
        selected=selected,
        patients=(getattr(data.source, "patients_of_splits", None) or {}).get(split),
        paired=_paired(generator, data, split, config, device) if translates and data.val_paired else None,
    )


def _paired(
    network: nn.Module, data: ImageDataModule, split: str, config: DictConfig, device: torch.device
) -> PairedResult:
    """Measure a translator and those of ``against`` on the pairs of a split."""
    others, tasks = dict[str, nn.Module](), dict[str, str]()
    against = config.get("against") or []
    for folder in named_folders(against) if isinstance(against, str) else against:
        options = cast(DictConfig, OmegaConf.merge(config, {"checkpoint": None}))
        run = open_run(Path(folder), options, device, translators=True)
        check_same_pairs(data, run.data, str(folder))
        name = name_of(str(folder), tuple(others))
        others[name], tasks[name] = run.generator, task_of(run.trained)
    found = PairedEvaluation(data, split, seed=config.seed, batch_size=config.batch_size)(network, others)
    return dataclasses.replace(found, against=[{**row, "task": tasks[row["run"]]} for row in found.against])


def _split_notes(data: ImageDataModule) -> Iterator[str]:
    """Say that the patients of held-out blocks of slices are known from their other slices."""
    if data.split_by == "blocks":
        yield (
            "Images are split by contiguous blocks of slices, and other slices of the same patients were trained on: "
            "the values say nothing about other patients."
        )


def _selection_notes(data: ImageDataModule, selected: bool) -> Iterator[str]:
    """Say that the best generator looks better on the images on which it was chosen than it is."""
    if selected:
        instead = "give split=test" if data.test_dataset is not None else "data.test_fraction= holds out test images"
        yield (
            "The generator was selected on these images as the best of its run, which biases the values towards good "
            f"ones (docs/selection.md): {instead}."
        )


def _bias_notes(config: DictConfig, trained: DictConfig) -> Iterator[str]:
    """Name the extractors whose values are biased: a generator that was trained to please a network pleases it here."""
    seen = {name: kind for part in ("discriminator", "reconstruction") for name, kind in _backbones(trained.get(part))}
    for name, extractor in config.extractor.items():
        own = dict(_backbones(extractor))
        if seen.keys() & own.keys():
            yield (
                f"The discriminator and extractor {name} use the same network, "
                f"{min(seen.keys() & own.keys())}, which biases the values: compare by others and by the images"
                + (f" (extractor.{name}.backbone.model_name={OTHER_IMAGENET})." if name == "imagenet" else ".")
            )
        elif IMAGENET & set(seen.values()) and (name == "inception" or IMAGENET & set(own.values())):
            yield f"The discriminator and extractor {name} were both trained on ImageNet: this may bias its values."


def _backbones(node: Any) -> Iterator[tuple[str, str]]:
    """Yield timm's name and the choice of weights of each network anywhere below ``node``."""
    if isinstance(node, DictConfig):
        if node.get("model_name"):
            yield str(node.model_name).split(".")[0], str(node.get("weights"))
        for name in node:
            yield from _backbones(node[name])


def of_images(real: Images, fake: Images, training: Images | None, config: DictConfig) -> EvaluationSets:
    """Compare two sets of images.

    Files are brought to the smallest size of all sets, so that nothing is enlarged, or to ``config.image_size``, and to
    the channels of ``fake``. Tensors stay as they are: the size and channels of the first one are those of all sets.

    Args:
        real: the reference.
        fake: the generated images.
        training: real images apart from the reference; None: there are none.
        config: ``data`` (how files are read), ``image_size``, ``per_class``.

    Raises:
        InputError: a folder cannot be read, a tensor does not fit, or classes are asked for that differ.
    """
    given = {"real": real, "fake": fake} | ({} if training is None else {"training": training})
    opened = {name: _opened(name, images, config) for name, images in given.items()}
    shapes = {name: _channels_and_shape(name, images) for name, images in opened.items()}
    tensors = [shapes[name] for name, images in opened.items() if isinstance(images, Tensor)]
    channels = (tensors or [shapes["fake"]])[0][0]
    size: int = config.image_size or min(min(shape) for _, shape in tensors[:1] or shapes.values())
    config = OmegaConf.merge(config, {"data": {"image_size": size, "channels": channels}})  # pyright: ignore
    sources = {name: _prepared(name, images, config) for name, images in opened.items()}
    class_names = sources["real"].class_names
    if any(source.class_names != class_names for source in sources.values()):
        class_names = ()
    if config.per_class and not class_names:
        raise InputError("per_class=true needs the same class folders in real= and fake=: per_class=false.")
    return EvaluationSets(
        shuffled(sources["real"].images),
        sources["fake"].images,
        shuffled(sources["training"].images) if "training" in sources else None,
        class_names,
        sources=(_described("real", real, config), _described("fake", fake, config)),
        notes=(*conversion_notes(opened, size, channels), *_content_notes(sources)),
        image_size=size,
        channels=channels,
    )


def _opened(name: str, images: Images, config: DictConfig) -> ImageFolder | Tensor:
    return images if isinstance(images, Tensor) else open_folder(name, str(images), config)


def _channels_and_shape(name: str, images: ImageFolder | Tensor) -> tuple[int, tuple[int, int]]:
    if isinstance(images, ImageFolder):
        return images.channels, images.shape
    if images.ndim != 4:
        raise InputError(f"{name} is a tensor of shape {tuple(images.shape)}: give images (N, C, H, W).")
    return images.shape[1], (images.shape[2], images.shape[3])


def _prepared(name: str, images: ImageFolder | Tensor, config: DictConfig) -> SourceImages:
    if isinstance(images, ImageFolder):
        return folder_images(name, images, config)
    return tensor_images(name, images, size=config.data.image_size, channels=config.data.channels)


def _described(name: str, images: Images, config: DictConfig) -> str:
    """Describe images for people, without the name of their folder unless ``data.show_paths`` allows it."""
    if isinstance(images, Tensor):
        return f"a tensor {tuple(images.shape)}"
    return str(images) if config.data.get("show_paths") else f"{name}="


def conversion_notes(opened: dict[str, ImageFolder | Tensor], size: int, channels: int) -> Iterator[str]:
    """Say which images are resized, and that those of another shape are not compared as a whole."""
    folders = {name: images for name, images in opened.items() if isinstance(images, ImageFolder)}
    for name, images in folders.items():
        if (images.side, images.channels) != (size, channels):
            yield (
                f"The images of {name}= ({images.side} pixels, {images.channels} channels) are converted to {size} "
                f"pixels and {channels} channels{', which enlarges them' if images.side < size else ''}."
            )
    height, width = folders["real"].shape if "real" in folders else (1, 1)
    for name, images in folders.items():
        if images.shape[0] * width != images.shape[1] * height:
            yield (
                f"The images of {name}= are {images.shape[1]}x{images.shape[0]} and those of real= have another "
                f"proportion, {width}x{height}: give images of one proportion, or say by data.resize=crop, fit or "
                "stretch how they become square."
            )


def _content_notes(sources: dict[str, SourceImages]) -> Iterator[str]:
    """Pass on what was said when the images were read, and say that sets hold the same images."""
    for source in sources.values():
        yield from source.notes
    if sources["real"].digests == sources["fake"].digests:
        yield "real= and fake= hold the same images: these are the distances of a set from itself."
