"""The minimax loss of the original GAN: a zero-sum game."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class Minimax:
    """Both networks optimize E[log D(x)] + E[log(1 - D(G(z)))] (Goodfellow et al. 2014, equation 1).

    D is the sigmoid of the logit.
    """

    relativistic = False
    boundary = 0.0

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``-E[log D(x)] - E[log(1 - D(G(z)))]``."""
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``E[log(1 - D(G(z)))]``."""
        return -softplus(fake).mean()
