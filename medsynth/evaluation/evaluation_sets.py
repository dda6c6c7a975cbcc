"""Both sides of an evaluation: a run's generator against its data, or one folder against another."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from medsynth.configuration.moved import load_configuration
from medsynth.configuration.trusted_targets import check_targets
from medsynth.contracts import InputError
from medsynth.evaluation.image_sets import folder_images, generated, open_folder, same_images, shuffled, split_of
from medsynth.generator.export import read_generator
from medsynth.metrics.image_set import ImageSet
from medsynth.runs.layout import CONFIGURATION

AVERAGED = "ema_generator.module."  # the averaged generator in a checkpoint


class EvaluationSets(NamedTuple):
    """Both sides, and what is known of them."""

    real: ImageSet
    fake: ImageSet
    training: ImageSet | None
    class_names: tuple[str, ...]
    sources: tuple[str, str]  # real, fake; for people
    notes: list[str]


def of_run(config: DictConfig, device: torch.device) -> EvaluationSets:
    """What a run's generator makes, against a split of its data, which becomes ``config.data``.

    Raises:
        InputError: no run, generator, checkpoint or split of that name.
    """
    folder = Path(config.run)
    if not (folder / CONFIGURATION).is_file():
        raise InputError(f"run={folder} is not the folder of a run: it holds no {CONFIGURATION}.")
    trained = load_configuration(folder / CONFIGURATION)
    check_targets(trained, folder / CONFIGURATION, trusted=config.trust)
    path = _checkpoint(folder, config.checkpoint) if config.checkpoint else folder / "generator.safetensors"
    generator = _from_checkpoint(path, trained) if config.checkpoint else read_generator(path)[0]
    generator.eval().to(device)

    config.data = trained.data  # what the extractors' channels and sizes refer to
    data = instantiate(trained.data, _convert_="all")
    if hasattr(data.source, "views"):
        data.source.views = None  # images are measured as they are
    data.prepare()
    split = config.split or "val"
    real = shuffled(split_of(data, trained, split))
    apart = split in ("val", "test") and data.num_train > 1
    training = shuffled(split_of(data, trained, "train"), most=config.max_training) if apart else None
    count = config.num_samples or real.count
    fake = generated(generator, count, reference=real, conditional=trained.num_classes > 0, seed=config.seed)
    sources = (f"{data.description}, split {split}", str(path))
    return EvaluationSets(real, fake, training, data.class_names, sources, list(_bias_notes(config, trained)))


def _checkpoint(folder: Path, name: str) -> Path:
    path = folder / "checkpoints" / f"{name}.ckpt" if name in ("last", "best") else Path(name)
    if not path.is_file():
        raise InputError(f"checkpoint={name} is not there: give last, best, or the path of a checkpoint of the run.")
    return path


def _from_checkpoint(path: Path, trained: DictConfig) -> nn.Module:
    """The averaged generator.

    Raises:
        InputError: the checkpoint is damaged, or of another generator than the run's.
    """
    generator = instantiate(trained.generator, _convert_="all")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        generator.load_state_dict({k.removeprefix(AVERAGED): v for k, v in state.items() if k.startswith(AVERAGED)})
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint={path} is damaged or of another generator: give one of the run.") from error
    return generator


def _bias_notes(config: DictConfig, trained: DictConfig) -> Iterator[str]:
    """Name the extractors whose values are biased: a generator that was trained to please a network pleases it here."""
    seen = dict(_backbones(trained.discriminator))
    for name, extractor in config.extractor.items():
        own = dict(_backbones(extractor))
        if seen.keys() & own.keys():
            yield (
                f"The discriminator and extractor {name} use the same network, "
                f"{min(seen.keys() & own.keys())}, which biases the values: compare by others and by the images."
            )
        elif "pretrained" in seen.values() and (name == "inception" or "pretrained" in own.values()):
            yield f"The discriminator and extractor {name} were both trained on ImageNet: this may bias its values."


def _backbones(node: Any) -> Iterator[tuple[str, str]]:
    """timm's name and the choice of weights of each network anywhere below ``node``."""
    if isinstance(node, DictConfig):
        if node.get("model_name"):
            yield str(node.model_name).split(".")[0], str(node.get("weights"))
        for name in node:
            yield from _backbones(node[name])


def of_folders(config: DictConfig) -> EvaluationSets:
    """``config.fake`` against ``config.real``; ``config.data`` takes the size and channels that both get.

    Raises:
        InputError: a folder cannot be read, or classes are asked for that are not the same on both sides.
    """
    real, fake = (open_folder(option, config[option], config) for option in ("real", "fake"))
    notes = []
    config.data.image_size = config.image_size or real.side
    config.data.channels = real.channels
    if (fake.side, fake.channels) != (config.data.image_size, real.channels):
        notes.append(
            f"The images of fake= ({fake.side} pixels, {fake.channels} channels) are converted to "
            f"{config.data.image_size} pixels and {real.channels} channels."
        )
    (of_real, first), (of_fake, second) = (
        folder_images(name, folder, config) for name, folder in (("real", real), ("fake", fake))
    )
    if same_images(first, second):
        notes.append("real= and fake= hold the same images: these are the distances of a set from itself.")
    class_names = first.class_names if first.class_names == second.class_names else ()
    if config.per_class and not class_names:
        raise InputError("per_class=true needs the same class folders in real= and fake=: per_class=false.")
    sources = (str(config.real), str(config.fake))
    return EvaluationSets(shuffled(of_real), of_fake, None, class_names, sources, notes)
