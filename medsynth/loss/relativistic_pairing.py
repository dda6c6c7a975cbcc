"""The relativistic pairing loss, of RSGAN and R3GAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class RelativisticPairing:
    """Each real image against one generated image: -log sigmoid(D(x) - D(G(z))) for the discriminator, with the sides
    exchanged for the generator (Jolicoeur-Martineau 2018, RSGAN; Huang et al. 2024, R3GAN).

    Only differences of logits count. It converges with both ``penalty=[r1,r2]`` (Huang et al. 2024, section 2). The
    generator's loss takes the real logits as constants.
    """

    relativistic = True
    boundary = None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real).mean()

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return softplus(real - fake).mean()
