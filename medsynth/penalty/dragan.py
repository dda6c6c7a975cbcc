"""The gradient penalty of DRAGAN (Kodali et al. 2017, "On convergence and stability of GANs")."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medsynth.contracts import Features, InputError
from medsynth.penalty.gradient import gradient_norms


class DRAGAN:
    """``weight * E[(|gradient of D at x + d| - 1)^2]`` of real inputs x and normal noise d (Kodali et al. 2017).

    The discriminator becomes smooth around the data, where sharp gradients go with mode collapse. The noise's standard
    deviation is ``perturbation`` times that of all values of the batch, since the scale of features is not known here;
    the paper has a constant.

    Args:
        weight: of the term; 10 in the paper.
        perturbation: deviation of the noise, as a multiple of the batch's.
        interval: the term enters every so many discriminator updates, multiplied by this number.

    Raises:
        InputError: the perturbation is not above 0.
    """

    at: Literal["perturbed"] = "perturbed"

    def __init__(self, *, weight: float = 10.0, perturbation: float = 0.5, interval: int = 1):
        if perturbation <= 0:
            raise InputError(f"penalty.dragan.perturbation={perturbation} must be above 0.")
        self.weight = weight
        self.perturbation = perturbation
        self.interval = interval

    def __call__(self, *, inputs: Features, logits: Tensor) -> Tensor:
        """Return the penalty, a scalar with its graph."""
        return self.weight * (gradient_norms(inputs, logits) - 1).square().mean()
