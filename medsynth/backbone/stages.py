"""The stages of a timm network, and the choice of those whose maps are used as levels."""

from __future__ import annotations

from typing import Any

from medsynth.backbone.timm_network import TimmNetwork
from medsynth.contracts import InputError

_MOST_LEVELS = 5  # that are chosen where no number is asked for: convolutional networks halve the resolution five times


def stages(network: TimmNetwork) -> list[dict[str, Any]]:
    """Return timm's ``feature_info``: ``num_chs``, ``reduction`` and ``module`` of each stage's output, in their order.

    A stage is the layers between two changes of the resolution; the first begins with the network's first layer. In
    transformers of one resolution each block is a stage. The list is empty for the few networks without this attribute.
    """
    return list(getattr(network, "feature_info", None) or [])


def count_stages(network: TimmNetwork, model_name: str, *, at_least: int) -> int:
    """Count the stages.

    Raises:
        InputError: there are fewer than ``at_least``, or that is negative.
    """
    number = len(stages(network))
    if not 0 <= at_least <= number:
        right = f"none, 1 to {number}, or all" if number else "none or all"
        raise InputError(f"discriminator.unfreeze={at_least}: {model_name} has {number} stages; choose {right}.")
    return number


def chosen_levels(network: TimmNetwork, model_name: str, count: int | None) -> list[int]:
    """Return the indices of the ``count`` stages that are used as levels, the finest first; None: all, at most five.

    These are the last stages; if all have the same resolution, evenly spaced ones with the last one included.

    Raises:
        InputError: there are fewer stages.
    """
    infos = stages(network) if hasattr(network, "forward_intermediates") else []
    if count is None:
        count = min(len(infos), _MOST_LEVELS)
    if not 1 <= count <= len(infos):
        right = f"choose 1 to {len(infos)}" if infos else "choose a discriminator that takes the pooled features"
        raise InputError(f"discriminator.levels={count}: {model_name} has {len(infos)} levels; {right}.")
    if len({info["reduction"] for info in infos}) > 1:
        return list(range(len(infos)))[-count:]
    return [(level + 1) * len(infos) // count - 1 for level in range(count)]
