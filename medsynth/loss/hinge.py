"""The hinge loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu


class Hinge:
    """Margins of 1 for the discriminator, the mean logit for the generator (Lim and Ye 2017, Geometric GAN).

    D is the logit.
    """

    relativistic = False
    boundary = 0.0

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``E[relu(1 - D(x))] + E[relu(1 + D(G(z)))]``."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``-E[D(G(z))]``."""
        return -fake.mean()
