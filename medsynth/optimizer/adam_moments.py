"""The part that the optimizers of this package share: Adam's options, averages and direction."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamMoments(Optimizer, abc.ABC):
    """Optimizer that moves along Adam's direction (Kingma and Ba 2015, algorithm 1).

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
                    self.update(parameter, parameter.grad, group)
        return loss

    @abc.abstractmethod
    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change ``parameter`` in place by its ``gradient`` and the options of its group."""

    def direction(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Take ``gradient`` into both averages; return their ratio, each corrected for its start from zero."""
        state = self.state[parameter]
        if "step" not in state:
            state["step"] = 0
            state |= {name: torch.zeros_like(parameter) for name in ("average", "square_average")}
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["average"].lerp_(gradient, 1 - beta1)
        state["square_average"].lerp_(gradient.square(), 1 - beta2)
        average = state["average"] / (1 - beta1 ** state["step"])
        square_average = state["square_average"] / (1 - beta2 ** state["step"])
        return average / (square_average.sqrt() + group["eps"])

    def remembered(self, parameter: Tensor, name: str) -> Tensor:
        """Return the tensor ``name`` of the parameter's state, which starts from zero."""
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]
