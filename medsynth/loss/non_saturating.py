"""The non-saturating loss, used by the reference system (Tomsk, 2020)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class NonSaturating:
    """Binary cross-entropy for the discriminator, -log D(G(z)) for the generator (Goodfellow et al. 2014, sec. 3).

    D is the sigmoid of the logit.
    """

    relativistic = False
    boundary = 0.0

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``-E[log D(x)] - E[log(1 - D(G(z)))]``."""
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``-E[log D(G(z))]``."""
        return softplus(-fake).mean()
