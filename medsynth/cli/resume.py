"""A run's configuration in its folder, and going on with it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from medsynth.cli.launch import conf_folder
from medsynth.contracts import InputError
from medsynth.files import replacing
from medsynth.gan import GAN

RESOLVED = "config.yaml"  # for people and programs to read
COMPOSED = "composition.yaml"  # with its interpolations: what a resumed run starts from


def save_configuration(config: DictConfig, folder: Path) -> None:
    """Write both forms of ``config`` into ``folder``, each complete or not at all."""
    for name, resolve in ((RESOLVED, True), (COMPOSED, False)):
        with replacing(folder / name) as temporary:
            OmegaConf.save(config, temporary, resolve=resolve)


def read_composition(folder: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration of the run in ``folder``, with the values of ``overrides`` changed.

    Raises:
        InputError: an override that chooses a part.
    """
    config = OmegaConf.load(folder / COMPOSED)
    OmegaConf.set_struct(config, True)
    for override in overrides:
        key = override.partition("=")[0]
        if key == "resume":
            continue
        if (conf_folder() / key.split("@")[0]).is_dir() or key.startswith(("+", "~")):
            raise InputError(f"{override} cannot be combined with resume=: a run goes on with its own parts.")
        config.merge_with_dotlist([override])
    return config


def check_checkpoint(folder: Path, model: GAN) -> Path:
    """The last checkpoint of the run in ``folder``, if ``model`` can go on with it; nothing is changed by asking.

    Raises:
        InputError: there is none, it is damaged or of another architecture, or the run has nothing left to do.
    """
    path = folder / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(f"resume={folder} cannot go on: the run was stopped before its first checkpoint.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    model.on_load_checkpoint(checkpoint)
    if model.images_seen >= model.max_images:
        raise InputError(f"The run {folder} has already seen its max_images={model.max_images}: give a larger number.")
    return path
