"""The R1 penalty."""

from __future__ import annotations

import torch
from torch import Tensor


class R1:
    """``gamma / 2 * E[|gradient of D at real inputs|^2]`` (Mescheder et al. 2018, equation 9)."""

    at = "real"

    def __init__(self, *, gamma: float = 1.0, interval: int = 1):
        self.gamma = gamma
        self.interval = interval

    def __call__(self, *, inputs: Tensor, logits: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        return self.gamma / 2 * gradient.flatten(1).square().sum(dim=1).mean()
