"""What a configuration leaves open until the data is known, and what it must not say."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medsynth.configuration.choices import choices_with
from medsynth.contracts import InputError
from medsynth.lightning.precision import on_gpu, settle_formats
from medsynth.lightning.process_launch import check_processes

_log = logging.getLogger(__name__)
_OURS = {"gradient_clip_val": "task.gradient_clip_norm", "accumulate_grad_batches": "task.accumulate"}


def settle(config: DictConfig, data: pl.LightningDataModule) -> None:
    """Fill in classes, duration, validation interval and precision; refuse what would be ignored, wrong or fail later.

    Raises:
        InputError: names the option and what would be right.
    """
    _refuse_ignored(config)
    _settle_classes(config, data)
    _settle_duration(config, data)
    _settle_shares(config, data)
    settle_formats(config)
    _warn_of_flattery(config)


def _settle_shares(config: DictConfig, data: pl.LightningDataModule) -> None:
    """What each process has of a batch can be computed in the parts asked for, and of the last one too."""
    processes = check_processes(config)
    if config.trainer.get("sync_batchnorm") and not on_gpu(config.trainer.accelerator):
        raise InputError(
            "trainer.sync_batchnorm=true is there for GPUs alone, and this training is on CPUs: leave it out."
        )
    share = data.batch_size // processes
    if config.task.accumulate > max(1, share):
        raise InputError(
            f"task.accumulate={config.task.accumulate} is more parts than the {share} images that "
            f"{'each process has of' if processes > 1 else 'are in'} data.batch_size={data.batch_size}."
        )
    rest = config.max_images % data.batch_size
    if rest % processes or rest == processes:
        raise InputError(
            f"max_images={config.max_images} leaves a last batch of {rest} images"
            + (f" for {processes} processes" if processes > 1 else "")
            + f", too few for batch statistics: choose a multiple of data.batch_size={data.batch_size}."
        )


def _refuse_ignored(config: DictConfig) -> None:
    for theirs, ours in _OURS.items():
        if theirs in config.trainer:
            raise InputError(f"trainer.{theirs} cannot serve two optimizers: set {ours} instead.")
    if any(override.startswith("run_dir=") for override in HydraConfig.get().overrides.task):
        raise InputError("run_dir= is filled in: name the run's folder by hydra.run.dir=/path/to/folder.")
    chosen = [override.partition("=") for override in HydraConfig.get().overrides.task]
    for group, slot in (("backbone", "backbone"), ("backbone@second_backbone", "second_backbone")):
        name = next((value for key, _, value in chosen if key == group), "null")
        if name != "null" and slot not in config.discriminator:
            suitable = " or ".join(choices_with("discriminator", slot))
            raise InputError(f"{group}={name} has no effect on this discriminator: choose discriminator={suitable}.")


def _warn_of_flattery(config: DictConfig) -> None:
    """A generator that has learned to please a network pleases the metric on that network too."""
    networks = set(_values(config.discriminator, "model_name")) & set(_values(config.metrics, "model_name"))
    if networks:
        _log.warning(
            "The discriminator and %s look at the images with the same network, %s, which flatters the values: "
            "judge by val/fd_pixels and by the pictures.",
            config.objective,
            networks.pop(),
        )


def _values(node: Any, key: str) -> Iterator[Any]:
    """The values of ``key`` anywhere below ``node``."""
    if isinstance(node, DictConfig):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values(value, key)


def _settle_classes(config: DictConfig, data: pl.LightningDataModule) -> None:
    if config.conditional and data.num_classes < 2:
        raise InputError("conditional=true needs data with two classes or more, for images in one subfolder per class.")
    config.num_classes = data.num_classes if config.conditional else 0


def _settle_duration(config: DictConfig, data: pl.LightningDataModule) -> None:
    batch_size = data.batch_size
    if config.max_epochs is not None:
        config.max_images = config.max_epochs * (data.num_train // batch_size) * batch_size
    for name in ("max_images", "val_every_images"):
        if config[name] is None or config[name] < 2:
            raise InputError(f"{name}={config[name]} must be 2 or more (or set max_epochs).")
    # Rounded up, else the last of them would come a few batches before the one at the end.
    config.trainer.val_check_interval = math.ceil(config.val_every_images / batch_size)
