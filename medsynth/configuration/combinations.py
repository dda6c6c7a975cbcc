"""Refusal of choices that cannot work together, with what to choose instead."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from medsynth.configuration.choices import choices_with
from medsynth.errors import InputError


def check_combinations(config: DictConfig) -> None:
    """Refuse a training's composed configuration where one choice would be ignored by another one.

    Raises:
        InputError: names both choices and what to type instead.
    """
    _check_minibatch(config)
    packing = config.discriminator.get("packing") or 1
    if packing > 1 and config.get("conditional"):
        raise InputError(
            f"discriminator.packing={packing} joins images of several classes, which have no label together: leave out "
            "conditional=true or discriminator.packing."
        )


def _check_minibatch(config: DictConfig) -> None:
    if config.get("minibatch") and not _has_key(config.discriminator, "minibatch"):
        suitable = choices_with("discriminator", "minibatch", "trained.minibatch")
        name = str(config.minibatch.get("_target_")).split(".")[-2]
        raise InputError(
            f"minibatch={name} has no effect on this discriminator, which has no layer that compares the images of a "
            f"batch: choose minibatch=none or discriminator={', '.join(suitable[:-1])} or {suitable[-1]}."
        )


def _has_key(node: Any, key: str) -> bool:
    """Tell whether ``node`` or a mapping below it has ``key``."""
    return isinstance(node, DictConfig) and (
        key in node or any(_has_key(value, key) for _, value in node.items_ex(resolve=False))
    )
