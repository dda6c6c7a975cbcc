"""Completion of a training's configuration once the data is known, and refusal of options that would be ignored."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from medsynth.configuration.cautions import cautions
from medsynth.configuration.combinations import (
    check_combinations,
    check_pairs,
    discriminator_of,
    sees_source,
    translates,
)
from medsynth.configuration.ignored import refuse_ignored
from medsynth.configuration.objectives import PAIRED_MEASURES
from medsynth.data.files import ImageFiles
from medsynth.data.module import ImageDataModule
from medsynth.errors import InputError
from medsynth.lightning.precision import check_compiler, final_precision, on_gpu, set_tf32
from medsynth.lightning.process_launch import check_processes
from medsynth.presets.measured import poor

_log = logging.getLogger(__name__)


def finalize(config: DictConfig, data: ImageDataModule) -> DictConfig:
    """Return ``config`` with classes, duration, validation interval and precision filled in; ``config`` stays as it is.

    Raises:
        InputError: an option would be ignored, is wrong for the data, or would fail later.
    """
    config = copy.deepcopy(config)
    refuse_ignored(config, config.overrides)
    check_combinations(config)
    config.num_classes = _num_classes(config, data)
    _fill_in_source(config, data)
    config.max_images = _max_images(config, data)
    config.trainer.val_check_interval = _validation_interval(config, data)
    _check_batch(config, data)
    if str(config.trainer.devices) == "-1":
        config.trainer.devices = "auto"  # the same, and the only name of it that Lightning knows on CPUs
    config.trainer.precision = final_precision(config.trainer.precision, config.trainer.accelerator)
    set_tf32(bool(config.get("tf32", False)), config.trainer.accelerator)
    if config.task.get("compile"):
        check_compiler(config.trainer.accelerator, config.penalty)
    _warn_of_bias(config)
    for sentence in cautions(config):
        _log.warning(sentence)
    _advise(config, data)
    return config


def _advise(config: DictConfig, data: ImageDataModule) -> None:
    """Say in one line that the discriminator is known to be poor for so few of the user's own images."""
    module = str(discriminator_of(config).get("_target_", "")).rpartition(".")[0].rpartition(".")[2]
    if isinstance(data.source, ImageFiles) and (sentence := poor(module, data.num_train)):
        _log.warning("Advice: %s", sentence)


def _num_classes(config: DictConfig, data: ImageDataModule) -> int:
    if config.conditional and data.num_classes < 2:
        raise InputError(
            "conditional=true needs data with two classes or more: put images into one subfolder per class, name "
            "labels in a table (data=csv), or leave conditional=true out."
        )
    return data.num_classes if config.conditional else 0


def _fill_in_source(config: DictConfig, data: ImageDataModule) -> None:
    """Fill in the channels of a translation's sources, and of what its discriminator is given."""
    if not translates(config):
        return
    channels = data.source_channels
    if channels == 0:
        raise InputError(
            "This task translates images, and the data has no targets: choose data=paired_folder, or another choice of "
            "data= that reads sources and targets, or leave task= out."
        )
    _check_pairs_of_task(config, data)
    config.source_channels = channels
    if config.generator.get("source_channels", channels) != channels:
        raise InputError(
            f"generator.source_channels={config.generator.source_channels} is not that of the data's sources, "
            f"{channels}: leave it out."
        )
    if "conditional_on_source" in config.task:
        config.task.conditional_on_source = sees_source(config)
        config.discriminator_channels = config.data.channels + channels * config.task.conditional_on_source


def _check_pairs_of_task(config: DictConfig, data: ImageDataModule) -> None:
    """Check that a task that learns from pairs has some; without pairs in validation monitor the metrics' objective."""
    needs_pairs = "reconstructions" in config.task
    if needs_pairs and not (data.val_paired and getattr(data.source, "paired", True)):
        raise InputError(
            "This task learns from pairs, and the targets of this data are not those of its sources: choose "
            "task=unpaired_translation or task=cut, or data with pairs."
        )
    if not data.val_paired and config.task.get("objective") in PAIRED_MEASURES:
        config.task.objective = config.metrics.objective


def _max_images(config: DictConfig, data: ImageDataModule) -> int:
    if config.max_epochs is not None:
        return config.max_epochs * (data.num_train // data.batch_size) * data.batch_size
    return config.max_images


def _validation_interval(config: DictConfig, data: ImageDataModule) -> int:
    """Return the batches between two validations."""
    # Rounded up, or the last of them would come a few batches before the one at the end.
    return math.ceil(config.val_every_images / data.batch_size)


def _check_batch(config: DictConfig, data: ImageDataModule) -> None:
    """Check that a batch and the last one can be shared by the processes and split into the microbatches asked for."""
    processes = check_processes(config.trainer)
    if config.trainer.get("sync_batchnorm") and not on_gpu(config.trainer.accelerator):
        raise InputError("trainer.sync_batchnorm=true works on GPUs only, and this training is on CPUs: leave it out.")
    share = data.batch_size // processes
    if config.task.accumulate > max(1, share):
        raise InputError(
            f"task.accumulate={config.task.accumulate} is more microbatches than the {share} images that "
            f"{'each process has of' if processes > 1 else 'are in'} data.batch_size={data.batch_size}: "
            f"type task.accumulate={share} or less."
        )
    rest = config.max_images % data.batch_size
    if rest % processes or rest == processes:
        raise InputError(
            f"max_images={config.max_images} leaves a last batch of {rest} images"
            + (f" for {processes} processes" if processes > 1 else "")
            + f", too few for batch statistics: choose a multiple of data.batch_size={data.batch_size}."
        )
    _check_packing(config, data.batch_size, rest, processes)
    check_pairs(config, share // config.task.accumulate)
    if config.get("minibatch") and share // config.task.accumulate < 2 * (discriminator_of(config).get("packing") or 1):
        raise InputError(
            f"minibatch= compares the images that are computed at a time, of which there is one with data.batch_size="
            f"{data.batch_size}, task.accumulate={config.task.accumulate} and processes={processes}: choose "
            "minibatch=none, a larger batch or fewer microbatches."
        )


def _check_packing(config: DictConfig, batch_size: int, rest: int, processes: int) -> None:
    """Check that the microbatches of a batch, and of a last one of ``rest`` images, divide into packs."""
    packing = discriminator_of(config).get("packing") or 1
    unit = packing * config.task.accumulate * processes
    if packing > 1 and (batch_size % unit or rest % unit):
        option, value = ("max_images", config.max_images) if batch_size % unit == 0 else ("data.batch_size", batch_size)
        raise InputError(
            f"{option}={value} leaves images that discriminator.packing={packing} cannot join in packs: choose a "
            f"multiple of {unit}, the packing times task.accumulate and the number of processes."
        )


def _warn_of_bias(config: DictConfig) -> None:
    """Warn where discriminator and metric share a network: a generator that pleases the one pleases the other."""
    networks = set(_values(discriminator_of(config), "model_name")) & set(_values(config.metrics, "model_name"))
    if networks:
        _log.warning(
            "The discriminator and %s look at the images with the same network, %s, which biases the values: "
            "compare by val/fd_pixels and by the pictures.",
            config.objective,
            networks.pop(),
        )


def _values(node: Any, key: str) -> Iterator[Any]:
    """Yield the values of ``key`` anywhere below ``node``."""
    if isinstance(node, DictConfig):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values(value, key)
