"""The least-squares loss."""

from __future__ import annotations

from torch import Tensor


class LeastSquares:
    """Half the squared distance of the logit D to 1 for real, to 0 for fake images (Mao et al. 2017, equation 9)."""

    relativistic = False
    boundary = 0.5

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2``."""
        return (0.5 * (real - 1).square()).mean() + (0.5 * fake.square()).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``E[(D(G(z)) - 1)^2] / 2``."""
        return (0.5 * (fake - 1).square()).mean()
