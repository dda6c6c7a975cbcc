"""The relativistic average loss of RaSGAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class RelativisticAverage:
    """Each side against the mean of the other side over the batch, by cross-entropy (Jolicoeur-Martineau 2018, RaSGAN).

    Each of the K columns of the logits (N, K) has its own mean over the N images. N is the number of images computed
    at a time: with ``task.accumulate`` above 1 those of a microbatch, on several devices those of one device. The
    generator's loss treats the real logits as constants.
    """

    relativistic = True
    boundary = None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss with real images above generated ones."""
        return _separation(high=real, low=fake)

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return the loss with generated images above real ones."""
        assert real is not None
        return _separation(high=fake, low=real)


def _separation(*, high: Tensor, low: Tensor) -> Tensor:
    """Return ``-E[log sigmoid(high - E[low])] - E[log(1 - sigmoid(low - E[high]))]``."""
    return softplus(low.mean(dim=0) - high).mean() + softplus(low - high.mean(dim=0)).mean()
