"""The minimax loss: the zero-sum game as first written down."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class Minimax:
    """Both players on E[log D(x)] + E[log(1 - D(G(z)))] (Goodfellow et al. 2014, equation 1)."""

    relativistic = False
    boundary = 0.0

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        return -softplus(fake).mean()  # log(1 - sigmoid(logits))
