"""The drift penalty of progressive growing (Karras et al. 2018)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


class Drift:
    """``weight * E[D(x)^2]`` of real images x: their logits stay near 0 (Karras et al. 2018, appendix A.1).

    For losses in which only differences of logits count, wasserstein and the relativistic ones: all logits may drift.

    Args:
        weight: of the term; 0.001 in the paper.
        interval: the term enters every so many discriminator updates, multiplied by this number.
    """

    at: Literal["logits"] = "logits"

    def __init__(self, *, weight: float = 0.001, interval: int = 1):
        self.weight = weight
        self.interval = interval

    def __call__(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return the term, a scalar."""
        return self.weight * real.square().mean()
