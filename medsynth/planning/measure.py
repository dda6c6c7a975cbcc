"""A few steps of a training, timed and weighed on the device that is here."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from medsynth.gan import GAN
from medsynth.lightning.precision import precision_options
from medsynth.planning.memory import trained_parameters
from medsynth.planning.step_timer import Steps, Watch

_ALONE = {  # options of the trainer, for steps that leave nothing behind
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
    """Steps at two batch sizes, and what does not depend on the size.

    ``lasting`` is ``plan_memory.lasting_bytes``; ``gradients`` the numbers of elements of each trained tensor, by
    player; ``statistics`` bytes of batch statistics, by player.
    """

    steps: tuple[Steps, Steps]
    lasting: dict[str, int]
    gradients: dict[str, list[int]]
    statistics: dict[str, int]
    discriminator_steps: int
    device: str
    precision: str


def measure(config: DictConfig, data: pl.LightningDataModule, sizes: tuple[int, int], timed: int) -> Measurement:
    """Train a handful of steps at each of two batch ``sizes``; ``timed`` of them are timed."""
    fits = [_fit(config, data, size, timed) for size in sizes]
    model, watch = fits[-1]
    return Measurement(
        steps=tuple(
            watch.steps(size, accumulate=model.accumulate) for size, (model, watch) in zip(sizes, fits, strict=True)
        ),
        lasting=watch.lasting,
        gradients={
            name: [p.numel() for p in trained_parameters(model, name)] for name in ("generator", "discriminator")
        },
        statistics={name: _statistics(getattr(model, name)) for name in ("generator", "discriminator")},
        discriminator_steps=model.discriminator_steps,
        device=watch.device,
        precision=watch.precision,
    )


def _fit(config: DictConfig, data: pl.LightningDataModule, size: int, timed: int) -> tuple[GAN, Watch]:
    pl.seed_everything(config.seed, verbose=False)
    data.batch_size = size
    # To cache the features of all images would take longer than the steps: without a cache a step does a little more.
    model = instantiate(config.task, _convert_="all", feature_cache=None)
    watch = Watch(cycle(model), timed)
    model.max_images = size * watch.count
    with tempfile.TemporaryDirectory() as folder:
        options = _ALONE | precision_options(config.trainer, ()) | {"callbacks": [watch], "default_root_dir": folder}
        instantiate(config.trainer, **options).fit(model, data)
    return model, watch


def cycle(model: GAN) -> int:
    """Discriminator updates after which penalties and generator updates come again in the same way."""
    return math.lcm(model.discriminator_steps, *(penalty.interval for penalty in model.penalties.values()))


def _statistics(module: torch.nn.Module) -> int:
    """Bytes of the batch statistics that change: those of a frozen part stay as they are, and with each process."""
    learning = [layer for layer in module.modules() if layer.training]
    return sum(
        buffer.nbytes
        for layer in learning
        for name, buffer in layer.named_buffers(recurse=False)
        if name in ("running_mean", "running_var")
    )
