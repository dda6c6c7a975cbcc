"""The stages of a timm network: which there are, and which of them serve as levels of features."""

from __future__ import annotations

from typing import Any

from torch import nn

from medsynth.contracts import InputError


def stages(network: nn.Module) -> list[dict[str, Any]]:
    """timm's ``feature_info``: ``num_chs``, ``reduction`` and ``module`` of each stage's output, in their order.

    A stage is what lies between two changes of the resolution; the first begins with the network's first layer. In
    transformers of one resolution each block is a stage. Empty for the few networks that do not say.
    """
    return list(getattr(network, "feature_info", None) or [])


def count_stages(network: nn.Module, model_name: str, *, at_least: int) -> int:
    """How many stages there are.

    Raises:
        InputError: there are not so many as ``at_least``, or that is negative.
    """
    number = len(stages(network))
    if not 0 <= at_least <= number:
        right = f"none, 1 to {number}, or all" if number else "none or all"
        raise InputError(f"discriminator.unfreeze={at_least}: {model_name} has {number} stages; choose {right}.")
    return number


def chosen_levels(network: nn.Module, model_name: str, count: int) -> list[int]:
    """Indices of the ``count`` stages that serve as levels, the finest first.

    The last ones; where all have the same resolution, ``count`` of them evenly spaced, with the last one included.

    Raises:
        InputError: there are not so many.
    """
    infos = stages(network) if hasattr(network, "forward_intermediates") else []
    if not 1 <= count <= len(infos):
        right = f"choose 1 to {len(infos)}" if infos else "choose a discriminator that takes the pooled features"
        raise InputError(f"discriminator.levels={count}: {model_name} gives {len(infos)} levels; {right}.")
    if len({info["reduction"] for info in infos}) > 1:
        return list(range(len(infos)))[-count:]
    return [(level + 1) * len(infos) // count - 1 for level in range(count)]
