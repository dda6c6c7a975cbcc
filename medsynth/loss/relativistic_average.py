"""The relativistic average loss, of RaSGAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class RelativisticAverage:
    """Each side against the mean of the other side over the batch, by cross-entropy (Jolicoeur-Martineau 2018, RaSGAN).

    With the logits (N, K) a mean is that of one judgment over the N images. The means are those of what is computed at
    a time: with ``task.accumulate`` above 1 those of a part, on several devices those of one device. The generator's
    loss takes the real logits as constants.
    """

    relativistic = True
    boundary = None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        return _separation(high=real, low=fake)

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return _separation(high=fake, low=real)


def _separation(*, high: Tensor, low: Tensor) -> Tensor:
    """-E[log sigmoid(high - E[low])] - E[log(1 - sigmoid(low - E[high]))]."""
    return softplus(low.mean(dim=0) - high).mean() + softplus(low - high.mean(dim=0)).mean()
