"""Optimistic Adam (Daskalakis et al. 2018, "Training GANs with optimism")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class OptimisticAdam(Optimizer):
    """Adam that takes each step twice and takes the last one back (Daskalakis et al. 2018, algorithm 1).

    With Adam's direction ``d_t = m_t / (sqrt(v_t) + eps)``, both averages corrected for their start from zero,
    ``w <- w - 2 lr d_t + lr d_(t-1)``, and d_0 = 0. The last direction stands for the next one, so that two networks
    approach an equilibrium that plain gradient steps circle around.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay of the averages of gradients and of their squares.
        eps: added to the square root.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.5, 0.9), eps: float = 1e-8):
        if lr < 0 or eps < 0:
            raise ValueError(f"lr={lr} and eps={eps} must be 0 or more")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas={betas} must be from 0 to less than 1")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient; return what ``closure``, which computes them, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = 0
            state |= {name: torch.zeros_like(parameter) for name in ("average", "square_average", "direction")}
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["average"].lerp_(gradient, 1 - beta1)
        state["square_average"].lerp_(gradient.square(), 1 - beta2)
        average = state["average"] / (1 - beta1 ** state["step"])
        square_average = state["square_average"] / (1 - beta2 ** state["step"])
        direction = average / (square_average.sqrt() + group["eps"])
        parameter.sub_(2 * direction - state["direction"], alpha=group["lr"])
        state["direction"].copy_(direction)
