"""The relativistic pairing loss of RSGAN and R3GAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class RelativisticPairing:
    """Each real image against one generated image (Jolicoeur-Martineau 2018, RSGAN; Huang et al. 2024, R3GAN).

    D is the logit; only differences of logits count. Training converges with ``penalty=[r1,r2]`` (Huang et al. 2024,
    section 2). The generator's loss treats the real logits as constants.
    """

    relativistic = True
    boundary = None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``-E[log sigmoid(D(x) - D(G(z)))]``."""
        return softplus(fake - real).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return ``-E[log sigmoid(D(G(z)) - D(x))]``."""
        assert real is not None
        return softplus(real - fake).mean()
