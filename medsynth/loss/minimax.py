"""The minimax loss of the original GAN: a zero-sum game."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from medsynth.loss.cross_entropy import CrossEntropy


class Minimax(CrossEntropy):
    """Both networks optimize E[log D(x)] + E[log(1 - D(G(z)))] (Goodfellow et al. 2014, equation 1)."""

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``E[log(1 - D(G(z)))]``."""
        return -softplus(fake).mean()
