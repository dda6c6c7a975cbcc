"""The non-saturating loss, the reference system's."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class NonSaturating:
    """Binary cross-entropy for the discriminator, -log D(G(z)) for the generator (Goodfellow et al. 2014, sec. 3)."""

    relativistic = False
    boundary = 0.0

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()
