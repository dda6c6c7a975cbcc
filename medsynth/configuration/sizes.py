"""Refusal of a size of images that a chosen network cannot have, before libraries are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.targets import target_of
from medsynth.image_sizes import (
    check_fastgan,
    check_patch,
    check_resnet_translator,
    doublings,
    tomsk_levels,
    unet_levels,
)

_NETWORKS = ("generator", "discriminator", "discriminator.trained", "encoder")  # groups, and what they may hold
_TO_4_PIXELS = {  # networks that double or halve from and to 4 pixels, and the smallest images they can have
    "generator.dcgan": 8,
    "generator.resnet": 8,
    "generator.style": 8,
    "discriminator.dcgan": 8,
    "discriminator.r3gan": 8,
    "discriminator.sngan": 16,
    "discriminator.style": 8,
    "encoder.dcgan": 8,
}
_OTHERS: dict[str, Callable[[int, DictConfig], Any]] = {
    "generator.fastgan": lambda size, options: check_fastgan(size),
    "generator.resnet_translator": lambda size, options: check_resnet_translator(size),
    "generator.tomsk": lambda size, options: tomsk_levels(size, options.get("levels")),
    "generator.unet": lambda size, options: unet_levels(size, options.get("levels")),
    "discriminator.patch": lambda size, options: check_patch(size, options.get("layers", 3)),
}


def check_sizes(config: DictConfig) -> None:
    """Check the size of the images of a training's configuration against its networks.

    Networks of other packages, and those that take any size, are not checked.

    Raises:
        InputError: names the size, the network and the sizes that it can have.
    """
    for place in _NETWORKS:
        options = OmegaConf.select(config, place)
        size = options.get("image_size") if isinstance(options, DictConfig) else None
        if type(size) is not int:
            continue
        network = target_of(options).removeprefix("medsynth.").rpartition(".")[0]  # generator.dcgan
        if network in _TO_4_PIXELS:
            doublings(size, network.replace(".", "=", 1), smallest=_TO_4_PIXELS[network])
        elif network in _OTHERS:
            _OTHERS[network](size, options)
