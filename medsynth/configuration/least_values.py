"""Refusal of sizes and counts of which no network or step can be built, before libraries are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from medsynth.errors import InputError

_NETWORKS = ("generator", "discriminator", "encoder", "minibatch")
_COUNTS = (
    *(
        "latent_dim",
        "style_dim",
        "max_width",
        "widths",
        "base_channels",
        "levels",
        "layers",
        "blocks",
        "mapping_layers",
    ),
    *("group", "group_width", "dimensions", "kernels", "positions", "packing", "scales", "channels"),
)
_STEPS = ("data.batch_size", "data.image_size", "task.accumulate", "callbacks.sample_grid.num_images")
_FROM_0 = ("data.num_workers", "task.ema_half_life", "task.ema_rampup")
_ABOVE_0 = ("width", "mapping_rate")  # those of some networks are fractions
_LARGEST_SEED = 2**32 - 1  # of NumPy
_OURS = "medsynth."  # a class of the user's own may give a zero a meaning


def check_least_values(config: DictConfig) -> None:
    """Check sizes of networks, intervals and counts of a composed configuration; what it lacks is not checked.

    Raises:
        InputError: names the option and the values that it can have.
    """
    if "seed" in config and config.seed is None:
        raise InputError(f"seed=null must be a number from 0 to {_LARGEST_SEED}, such as seed=0.")
    for option, value in _options(config, ("seed",)):
        if not 0 <= value <= _LARGEST_SEED:
            raise InputError(f"{option}={value} must be from 0 to {_LARGEST_SEED}.")
    for option, value in (*_options(config, _FROM_0), *_of_networks(config, ("num_classes",))):
        if value < 0:
            raise InputError(f"{option}={value} must be 0 or more.")
    for option, value in (*_of_networks(config, _COUNTS), *_options(config, _STEPS), *_intervals(config)):
        if value < 1 and not (value == 0 and option == "generator.latent_dim" and _translates(config.generator)):
            raise InputError(f"{option}={_shown(config, option)} must be 1 or more.")
    for option, value in _of_networks(config, _ABOVE_0):
        if value <= 0:
            raise InputError(f"{option}={value} must be above 0.")
    _check_durations(config)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        optimizer = config.get(name)
        betas = optimizer.get("betas") if isinstance(optimizer, DictConfig) else None
        if isinstance(betas, ListConfig) and len(betas) != 2:
            raise InputError(f"{name}.betas={betas} must be two numbers, such as {name}.betas=[0.0,0.99].")


def _check_durations(config: DictConfig) -> None:
    """Check how long a training is and how often it validates, in images or, with ``max_epochs``, in epochs."""
    epochs = config.get("max_epochs")
    if epochs is not None and epochs < 1:
        raise InputError(f"max_epochs={epochs} must be 1 or more, or null.")
    for name in ("max_images", "val_every_images"):
        images = config.get(name, 2)
        if (0 if images is None else images) < 2 and not (name == "max_images" and epochs):
            instead = ", or null beside max_epochs" if name == "max_images" else ""
            raise InputError(f"{name}={'null' if images is None else images} must be 2 or more{instead}.")


def _translates(generator: DictConfig) -> bool:
    """Tell whether a generator makes images of other images, and needs no noise."""
    return "source_channels" in generator


def _of_networks(config: DictConfig, names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    ours = [group for group in _NETWORKS if _is_ours(config.get(group))]
    yield from _options(config, tuple(f"{group}.{name}" for group in ours for name in names))


def _intervals(config: DictConfig) -> Iterator[tuple[str, float]]:
    for group in ("penalty", "generator_penalty"):
        terms: Any = config.get(group)
        names = list(terms) if isinstance(terms, Mapping) else []
        yield from _options(config, tuple(f"{group}.{name}.interval" for name in names if _is_ours(terms[name])))


def _is_ours(node: Any) -> bool:
    return isinstance(node, DictConfig) and str(node.get("_target_")).startswith(_OURS)


def _block(config: DictConfig, path: str) -> Any:
    node: Any = config
    for name in path.split(".") if path else ():
        node = node.get(name) if isinstance(node, DictConfig) else None
    return node


def _shown(config: DictConfig, option: str) -> Any:
    block, _, key = option.rpartition(".")
    return _block(config, block)[key]


def _options(config: DictConfig, names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of options, of a list each one; not those that are another option's."""
    for name in names:
        block, _, key = name.rpartition(".")
        node = _block(config, block)
        if not isinstance(node, DictConfig) or key not in node or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        for number in value if isinstance(value, ListConfig) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield name, number
