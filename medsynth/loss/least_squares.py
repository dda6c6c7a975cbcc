"""The least-squares loss."""

from __future__ import annotations

from torch import Tensor

from medsynth.loss.labels import Labels


class LeastSquares:
    """Half the squared distance of the logit D to 1 for real, to 0 for fake images (Mao et al. 2017, equation 9).

    Args:
        label_smoothing: see ``Labels``.
        label_flipping: see ``Labels``.
    """

    relativistic = False

    def __init__(self, *, label_smoothing: float = 0.0, label_flipping: float = 0.0):
        self.labels = Labels(smoothing=label_smoothing, flipping=label_flipping)
        self.boundary = self.labels.even

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2``, or with other labels in the place of 1 and 0."""
        real, fake = real - self.labels.of(real, real=True), fake - self.labels.of(fake, real=False)
        return (0.5 * real.square()).mean() + (0.5 * fake.square()).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``E[(D(G(z)) - 1)^2] / 2``."""
        return (0.5 * (fake - 1).square()).mean()
