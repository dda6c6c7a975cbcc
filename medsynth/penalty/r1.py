"""The R1 gradient penalty (Mescheder et al. 2018)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medsynth.contracts import Features
from medsynth.penalty.gradient import squared_gradient_norms


class R1:
    """``gamma / 2 * E[|gradient of D at real inputs|^2]`` (Mescheder et al. 2018, equation 9)."""

    at: Literal["real"] = "real"

    def __init__(self, *, gamma: float = 1.0, interval: int = 1):
        self.gamma = gamma
        self.interval = interval

    def __call__(self, *, inputs: Features, logits: Tensor) -> Tensor:
        """Return the penalty, a scalar with its graph."""
        return self.gamma / 2 * squared_gradient_norms(inputs, logits).mean()
