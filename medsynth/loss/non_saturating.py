"""The non-saturating loss, used by the reference system (Tomsk, 2020)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from medsynth.loss.cross_entropy import cross_entropy, even_logit
from medsynth.loss.labels import Labels


class NonSaturating:
    """Binary cross-entropy for the discriminator, -log D(G(z)) for the generator (Goodfellow et al. 2014, sec. 3).

    D is the sigmoid of the logit.

    Args:
        label_smoothing: see ``Labels``.
        label_flipping: see ``Labels``.
    """

    relativistic = False

    def __init__(self, *, label_smoothing: float = 0.0, label_flipping: float = 0.0):
        self.labels = Labels(smoothing=label_smoothing, flipping=label_flipping)
        self.boundary = even_logit(self.labels)

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``-E[log D(x)] - E[log(1 - D(G(z)))]``, or the cross-entropy with other labels than 1 and 0."""
        return cross_entropy(real=real, fake=fake, labels=self.labels)

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``-E[log D(G(z))]``."""
        return softplus(-fake).mean()
