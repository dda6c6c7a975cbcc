"""Feature matching (Salimans et al. 2016, "Improved techniques for training GANs")."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import GeneratorUpdate, InputError, activations
from medsynth.generator_penalty.precision import wide


class FeatureMatching:
    """``weight * |E[f(x)] - E[f(G(z))]|^2``, divided by the number of features (Salimans et al. 2016, section 3.1).

    ``f`` are the discriminator's activations before its logit, or a frozen backbone's features as they are; of several
    tensors the mean over tensors. Expectations are over the images of a microbatch, of one process. The square is the
    mean over all features, as in the authors' program, so that the weight does not depend on their number. In the paper
    the term replaces the loss of the logits; here it is added to it.

    Args:
        weight: of the term.
        interval: generator updates per update with the term, which is then as many times as strong.

    Raises:
        InputError: the interval is less than 1.
    """

    def __init__(self, *, weight: float = 1.0, interval: int = 1):
        if interval < 1:
            raise InputError(f"generator_penalty.feature_matching.interval={interval} must be 1 or more.")
        self.weight = weight
        self.interval = interval

    def __call__(self, update: GeneratorUpdate) -> Tensor:
        """Return the term, a scalar with its graph.

        Raises:
            InputError: the discriminator has neither ``activations`` nor frozen features.
        """
        fakes = activations(update.discriminator, update.fake, "generator_penalty=feature_matching")
        with torch.no_grad():
            reals = activations(update.discriminator, update.real, "generator_penalty=feature_matching")
        pairs = zip(reals, fakes, strict=True)
        distances = [(wide(real).mean(dim=0) - wide(fake).mean(dim=0)).square().mean() for real, fake in pairs]
        return self.weight * torch.stack(distances).mean()
