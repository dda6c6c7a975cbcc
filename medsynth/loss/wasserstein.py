"""The Wasserstein loss."""

from __future__ import annotations

from torch import Tensor


class Wasserstein:
    """Difference of the mean logits D (Arjovsky et al. 2017, algorithm 1).

    It estimates a distance only if the discriminator is Lipschitz: combine it with ``penalty=wasserstein_gp``
    (Gulrajani et al. 2017) or with ``task.weight_clip`` (Arjovsky et al. 2017).
    """

    relativistic = False
    boundary = None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``E[D(G(z))] - E[D(x)]``."""
        return fake.mean() - real.mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``-E[D(G(z))]``."""
        return -fake.mean()
