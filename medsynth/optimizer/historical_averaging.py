"""Historical averaging (Salimans et al. 2016, "Improved techniques for training GANs", section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def historical_averaging(
    params: Any, *, optimizer: Callable[..., Optimizer], weight: float, **options: Any
) -> Optimizer:
    """Build an optimizer that also pulls the parameters towards the mean of their past values.

    The network's loss has the term ``weight * |w_t - (w_0 + ... + w_(t-1)) / t|^2`` after t updates: each step adds its
    gradient, ``2 weight (w_t - mean)`` with the mean held fixed, to that of the loss. It is neither part of the logged
    losses and gradient norms nor clipped. Means and counts are in the optimizer's state, and so in checkpoints.

    Args:
        params: parameters, or groups of them.
        optimizer: (params, options) -> the optimizer. Its steps take gradients that are there before, not a closure's.
        weight: of the term.
        options: of the optimizer.

    Raises:
        ValueError: the weight is negative.
    """
    if weight < 0:
        raise ValueError(f"weight={weight} must be 0 or more")
    built = optimizer(params, **options)
    first: dict[Tensor, Tensor] = {}  # parameters before their first update: until then their state has to be empty

    @torch.no_grad()
    def add_gradients(stepping: Optimizer, *_: Any) -> None:
        for parameter in _updated(stepping):
            state = stepping.state[parameter]
            if "historical_mean" not in state:
                first[parameter] = parameter.clone()
                continue
            assert parameter.grad is not None
            parameter.grad.add_(parameter - state["historical_mean"], alpha=2 * weight)
            state["historical_count"] += 1
            state["historical_mean"].lerp_(parameter, 1 / state["historical_count"])

    def begin_means(stepping: Optimizer, *_: Any) -> None:
        for parameter, value in first.items():
            stepping.state[parameter] |= {"historical_mean": value, "historical_count": 1}
        first.clear()

    built.register_step_pre_hook(add_gradients)
    built.register_step_post_hook(begin_means)
    return built


def _updated(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
