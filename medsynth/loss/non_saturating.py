"""The non-saturating loss, used by the reference system (Tomsk, 2020)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from medsynth.loss.cross_entropy import CrossEntropy


class NonSaturating(CrossEntropy):
    """Binary cross-entropy for the discriminator, -log D(G(z)) for the generator (Goodfellow et al. 2014, sec. 3)."""

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``-E[log D(G(z))]``."""
        return softplus(-fake).mean()
