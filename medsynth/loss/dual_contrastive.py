"""The dual contrastive loss (Yu et al. 2021, "Dual contrastive loss and attention for GANs")."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class DualContrastive:
    """Each real image against all generated ones of the batch, and each generated one against all real ones.

    Yu et al. 2021, section 3: the discriminator tells the one real image among the generated ones of a batch, by a
    softmax of the logits D, and dually the one generated image among the real ones, by a softmax of -D. As in the
    relativistic losses the generator descends on the same expression with the sides exchanged, and real logits are
    constants to it.

    Each of the K columns of the logits (N, K) is compared for itself. N is the number of images computed at a time:
    with ``task.accumulate`` above 1 those of a microbatch, on several devices those of one device.
    """

    relativistic = True
    boundary = None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return ``E_x[log(1 + sum_z e^(D(G(z)) - D(x)))] + E_z[log(1 + sum_x e^(D(G(z)) - D(x)))]``."""
        return _contrasts(high=real, low=fake)

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return the same with real and generated images exchanged."""
        assert real is not None
        return _contrasts(high=fake, low=real)


def _contrasts(*, high: Tensor, low: Tensor) -> Tensor:
    """Return the mean over ``high`` of ``log(1 + sum e^(low - high))`` over ``low``, plus the mean over ``low``."""
    return softplus(low.logsumexp(dim=0) - high).mean() + softplus(low + (-high).logsumexp(dim=0)).mean()
