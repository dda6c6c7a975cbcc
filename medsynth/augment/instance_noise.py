"""Instance noise, against an over-strong discriminator (Sønderby et al. 2017; Arjovsky and Bottou 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import InputError


class InstanceNoise:
    """Normal noise on every image that the discriminator sees, real and generated ones alike.

    Where images lie on thin sets, real and generated ones can be told apart without error, and the generator's gradient
    vanishes or is unstable (Arjovsky and Bottou 2017, section 3); noise makes the two distributions overlap. It is to
    decrease in the course of the training (Sønderby et al. 2017, section 3.1), by a schedule of ``sigma``: else the
    generator may leave out what the noise covers. Nothing is clipped.

    Args:
        sigma: standard deviation of the noise, in units of [-1, 1].

    Raises:
        InputError: it is negative.
    """

    def __init__(self, *, sigma: float = 0.1):
        if sigma < 0:
            raise InputError(f"augment.instance_noise.sigma={sigma} must be 0 or more.")
        self.sigma = sigma

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) with noise."""
        return images + self.sigma * torch.randn_like(images)
