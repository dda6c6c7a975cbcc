"""A run opened again: its configuration, its data, and its generator or one of its checkpoints."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from medsynth.configuration.moved import load_configuration
from medsynth.configuration.trusted_paths import check_configuration, check_links
from medsynth.contracts import InputError, Scheduled
from medsynth.data.geometry import RandomViews
from medsynth.data.module import ImageDataModule
from medsynth.evaluation.translations import is_translation
from medsynth.generator.export import read_generator
from medsynth.runs.existing import require_run

AVERAGED = "ema_generator.module."  # the averaged generator in a checkpoint


class OpenedRun(NamedTuple):
    """A run's configuration, its prepared data, its generator in evaluation mode, and the file that this is from."""

    trained: DictConfig
    data: ImageDataModule
    generator: nn.Module
    path: Path


def open_run(
    folder: Path,
    config: DictConfig,
    device: torch.device,
    *,
    built: Sequence[str] = ("data", "generator"),
    translators: bool = False,
) -> OpenedRun:
    """Read a run's generator and prepare its data, without random crops and flips.

    Args:
        folder: of the run.
        config: ``checkpoint`` and ``trust``, as in conf/evaluate.yaml.
        device: to bring the generator to.
        built: entries of the run's configuration of which the caller builds objects.
        translators: whether the run may be of a translation.

    Raises:
        InputError: no run, generator or checkpoint of that name.
    """
    trained = _configuration(folder, trusted=config.trust, built=built)
    if is_translation(trained) and not translators:
        raise InputError(
            f"{folder} is the run of a translation, whose images are made of others and not of noise: medsynth "
            "evaluate measures it, medsynth translate translates by it."
        )
    path = checkpoint_path(folder, config.checkpoint) if config.checkpoint else folder / "generator.safetensors"
    generator = _from_checkpoint(path, trained) if config.checkpoint else read_generator(path, trusted=config.trust)[0]
    generator.eval().to(device)
    data = instantiate(trained.data, _convert_="all")
    if hasattr(data.source, "views"):
        data.source.views = RandomViews(data.source.image_size)
    data.prepare()
    return OpenedRun(trained, data, generator, path)


def _configuration(folder: Path, *, trusted: bool, built: Sequence[str]) -> DictConfig:
    path = require_run(folder)
    config = load_configuration(path)
    check_links(folder, trusted=trusted)
    check_configuration(config, path, trusted=trusted, built=built)
    if not isinstance(config.get("num_classes"), int):
        raise InputError(f"{path} is damaged: its num_classes is not a whole number. Name another run.")
    return config


def checkpoint_path(folder: Path, name: str) -> Path:
    """Return the checkpoint last or best of a run, or the one at the path ``name``.

    Raises:
        InputError: there is none.
    """
    path = folder / "checkpoints" / f"{name}.ckpt" if name in ("last", "best") else Path(name)
    if not path.is_file():
        raise InputError(f"checkpoint={name} does not exist: give last, best, or the path of a checkpoint of the run.")
    return path


def _from_checkpoint(path: Path, trained: DictConfig) -> nn.Module:
    """Load the averaged generator.

    Raises:
        InputError: the checkpoint is damaged, or of another generator than the run's.
    """
    return with_weights(instantiate(trained.generator, _convert_="all"), path, AVERAGED, kind="generator")


def with_weights(network: nn.Module, path: Path, prefix: str, *, kind: str) -> nn.Module:
    """Return the network with the weights that a checkpoint has below ``prefix``, as it was then in its warm-up.

    Raises:
        InputError: the checkpoint is damaged, or of another network.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state = checkpoint["state_dict"]
        network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        if isinstance(network, Scheduled):
            network.advance(int(checkpoint["medsynth"]["images_seen"]))
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint={path} is damaged or of another {kind}: give one of the run.") from error
    return network
