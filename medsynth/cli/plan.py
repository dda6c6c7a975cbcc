"""The command ``medsynth plan``: estimates of a training on several devices, from a few steps on one device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from medsynth.configuration.combinations import discriminator_of
from medsynth.contracts import InputError
from medsynth.files import replacing
from medsynth.finalize import finalize
from medsynth.lightning.libraries import quiet_libraries
from medsynth.planning.disk import disk_bytes
from medsynth.planning.estimate import estimate
from medsynth.planning.link import Link, measure_link
from medsynth.planning.measure import Measurement, measure
from medsynth.planning.plan_text import plan_text, plan_values

if TYPE_CHECKING:
    from medsynth.data.module import ImageDataModule

_DEVICE_OPTIONS = ("trainer.devices=", "trainer.num_nodes=", "trainer.sync_batchnorm=")


def run(config: DictConfig) -> None:
    """Measure a few steps, print the estimates, and with ``plan.out`` write them as JSON."""
    devices = _check(config)
    quiet_libraries()
    config.overrides = list(HydraConfig.get().overrides.task)
    config.trainer.devices, config.trainer.num_nodes, config.trainer.sync_batchnorm = 1, 1, False
    data: ImageDataModule = instantiate(config.data, _convert_="all")
    data.prepare()
    config = finalize(config, data)
    batch, accumulate = data.batch_size, config.task.accumulate
    sizes = _sizes(config, devices, data)
    print(f"Planning {data.description}: a few steps of {sizes[0]} and of {sizes[1]} images ...", flush=True)
    measurement = measure(config, data, sizes, config.plan.steps)
    link = _link(config, measurement, devices)
    estimates = estimate(
        measurement,
        link,
        devices=devices,
        batch=batch,
        accumulate=accumulate,
        max_images=config.max_images,
        limit=_limit(config),
    )
    disk = disk_bytes(config, measurement.lasting)
    print(plan_text(measurement, link, estimates, disk, batch), flush=True)
    if config.plan.out is not None:
        with replacing(Path(config.plan.out)) as path:
            path.write_text(
                json.dumps(plan_values(measurement, link, estimates, disk), indent=2) + "\n", encoding="utf-8"
            )


def _check(config: DictConfig) -> list[int]:
    """Check the options; return the numbers of devices, sorted.

    Raises:
        InputError: names the option and what would be right.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("medsynth plan needs no -m: give several numbers of devices by plan.devices=[1,2,4,8].")
    if config.get("encoder"):
        raise InputError("medsynth plan knows the step of task=synthesis alone: leave out task=.")
    if config.resume:
        raise InputError("medsynth plan is for new trainings: leave out resume= and give the options of the run.")
    typed = next((o for o in HydraConfig.get().overrides.task if o.startswith(_DEVICE_OPTIONS)), None)
    if typed is not None:
        raise InputError(
            f"medsynth plan measures on one device, so {typed} has no effect: give plan.devices=[1,2,4,8]."
        )
    asked = config.plan.devices
    devices = list(asked or ())
    if not devices or not all(_whole(count) for count in devices):
        raise InputError(f"plan.devices={asked} must be numbers of devices, such as [1,2,4,8].")
    uneven = next((count for count in devices if config.data.batch_size % count), None)
    if uneven is not None:
        raise InputError(
            f"data.batch_size={config.data.batch_size} cannot be divided among {uneven} devices: it is the batch of "
            "all devices together; give a multiple of each number in plan.devices."
        )
    for name, zero in (("steps", False), ("bandwidth_gbps", False), ("memory_gib", False), ("latency_us", True)):
        value = config.plan[name]
        if value is not None and (isinstance(value, str | bool) or value < 0 or (value == 0 and not zero)):
            raise InputError(f"plan.{name}={value} must be a number, {'0 or more' if zero else 'above 0'}.")
    return sorted({int(count) for count in devices})


def _whole(count: object) -> bool:
    return isinstance(count, int) and not isinstance(count, bool) and count >= 1


def _sizes(config: DictConfig, devices: list[int], data: ImageDataModule) -> tuple[int, int]:
    """Return two different batch sizes to measure: the smallest share of a device, and the whole batch."""
    accumulate, packing = config.task.accumulate, discriminator_of(config).get("packing") or 1
    unit = packing * accumulate if packing > 1 else 1  # whole packs in each microbatch
    least, batch = max(2, accumulate, unit), data.batch_size
    chosen = config.plan.batch_sizes
    if chosen is None:
        large = max(batch, least + unit)
        small = max(least, min(batch // devices[-1], large // 2) // unit * unit)
    else:
        small, large = sorted(chosen) if len(chosen) == 2 and all(map(_whole, chosen)) else (0, 0)
        if small < least or small == large:
            raise InputError(f"plan.batch_sizes={chosen} must be two different sizes, each {least} or more.")
    if large > data.num_train:
        raise InputError(
            f"A batch of {large} images cannot be measured with {data.num_train} training images: give smaller "
            "plan.batch_sizes."
        )
    return small, large


def _link(config: DictConfig, measurement: Measurement, devices: list[int]) -> Link:
    given = config.plan.bandwidth_gbps
    if given is None and devices != [1]:
        return measure_link([size for sizes in measurement.gradients.values() for size in sizes])
    return Link(bandwidth=(given or 10) * 1e9 / 8, latency=config.plan.latency_us * 1e-6, measured=False)


def _limit(config: DictConfig) -> float | None:
    """Return the bytes of memory of each device; None: not known."""
    if config.plan.memory_gib is not None:
        return config.plan.memory_gib * 2**30
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_properties(0).total_memory if on_gpu else None
