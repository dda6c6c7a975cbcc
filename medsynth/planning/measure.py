"""Measurement of time and memory of a few training steps on one device of this machine."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from medsynth.contracts import Network
from medsynth.gan import GAN
from medsynth.lightning.precision import precision_options
from medsynth.planning.memory import networks, trained_parameters
from medsynth.planning.step_timer import Steps, StepTimer

if TYPE_CHECKING:
    from medsynth.data.module import ImageDataModule

_ALONE = {  # options of the trainer: one device, no validation, no files
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "sync_batchnorm": False,
    "limit_val_batches": 0,
    "val_check_interval": None,
    "max_time": None,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


@dataclass(frozen=True)
class Measurement:
    """Steps at two batch sizes, and what does not depend on the batch size.

    Attributes:
        steps: at the smaller and at the larger batch size.
        lasting: see ``memory.lasting_bytes``.
        gradients: number of elements of each trained tensor, by network.
        statistics: bytes of batch statistics, by network.
        discriminator_steps: discriminator updates for one generator update.
        device: its name.
        precision: of the trainer.
    """

    steps: tuple[Steps, Steps]
    lasting: dict[str, int]
    gradients: dict[str, list[int]]
    statistics: dict[str, int]
    discriminator_steps: int
    device: str
    precision: str


def measure(config: DictConfig, data: ImageDataModule, sizes: tuple[int, int], timed: int) -> Measurement:
    """Train a few steps at each of two batch ``sizes``; ``timed`` of them are timed, at each."""
    smaller, larger = (_fit(config, data, size, timed) for size in sizes)
    model, timer = larger
    return Measurement(
        steps=(
            smaller[1].steps(sizes[0], accumulate=model.accumulate),
            larger[1].steps(sizes[1], accumulate=model.accumulate),
        ),
        lasting=timer.lasting,
        gradients={name: [p.numel() for p in trained_parameters(network)] for name, network in networks(model).items()},
        statistics={name: _statistics(network) for name, network in networks(model).items()},
        discriminator_steps=model.discriminator_steps,
        device=timer.device,
        precision=timer.precision,
    )


def _fit(config: DictConfig, data: ImageDataModule, size: int, timed: int) -> tuple[GAN, StepTimer]:
    pl.seed_everything(config.seed, verbose=False)
    data.batch_size = size
    # Caching the features of all images would take longer than the steps; without the cache a step takes a bit longer.
    model = instantiate(config.task, _convert_="all", feature_cache=None)
    timer = StepTimer(cycle(model), timed)
    model.max_images = size * timer.count
    with tempfile.TemporaryDirectory() as folder:
        options = _ALONE | precision_options(config.trainer, ()) | {"callbacks": [timer], "default_root_dir": folder}
        instantiate(config.trainer, **options).fit(model, data)
    return model, timer


def cycle(model: GAN) -> int:
    """Return the number of discriminator updates after which penalties and generator updates repeat."""
    of_generator = [penalty.interval * model.discriminator_steps for penalty in model.generator_penalties.values()]
    of_discriminator = [penalty.interval for penalty in model.penalties.values()]
    return math.lcm(model.discriminator_steps, *of_discriminator, *of_generator)


def _statistics(network: Network) -> int:
    """Count the bytes of batch statistics that processes average; those of frozen layers do not change."""
    learning = [layer for layer in network.modules() if layer.training]
    return sum(
        buffer.nbytes
        for layer in learning
        for name, buffer in layer.named_buffers(recurse=False)
        if name in ("running_mean", "running_var")
    )
