"""The gradient penalty of WGAN-GP (Gulrajani et al. 2017)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medsynth.contracts import Features
from medsynth.penalty.gradient import gradient_norms


class WassersteinGradientPenalty:
    """``weight * E[(|gradient of D at a point between real and fake| - 1)^2]`` (Gulrajani et al. 2017, equation 3)."""

    at: Literal["between"] = "between"

    def __init__(self, *, weight: float = 10.0, interval: int = 1):
        self.weight = weight
        self.interval = interval

    def __call__(self, *, inputs: Features, logits: Tensor) -> Tensor:
        """Return the penalty, a scalar with its graph."""
        return self.weight * (gradient_norms(inputs, logits) - 1).square().mean()
