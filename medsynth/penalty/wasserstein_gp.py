"""The gradient penalty of WGAN-GP."""

from __future__ import annotations

import torch
from torch import Tensor


class WassersteinGradientPenalty:
    """``weight * E[(|gradient of D at a point between real and fake| - 1)^2]`` (Gulrajani et al. 2017, equation 3)."""

    at = "between"

    def __init__(self, *, weight: float = 10.0, interval: int = 1):
        self.weight = weight
        self.interval = interval

    def __call__(self, *, inputs: Tensor, logits: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        return self.weight * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
