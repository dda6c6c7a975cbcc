"""The discriminator's cross-entropy of logits and labels between 0 and 1, which two losses share."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from medsynth.loss.labels import Labels


class CrossEntropy:
    """The discriminator tells real from generated images by their cross-entropy; D is the sigmoid of the logit.

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


def cross_entropy(*, real: Tensor, fake: Tensor, labels: Labels) -> Tensor:
    """Return ``-E[t log D + (1 - t) log(1 - D)]`` of real images, plus that of generated ones; t are their labels.

    D is the sigmoid of the logits (N, K).
    """
    return _mean(real, labels.of(real, real=True)) + _mean(fake, labels.of(fake, real=False))


def even_logit(labels: Labels) -> float:
    """Return the logit at which real and generated images are equally likely: that of their mean label."""
    return math.log(labels.even / (1 - labels.even))


def _mean(logits: Tensor, labels: Tensor) -> Tensor:
    return (labels * softplus(-logits) + (1 - labels) * softplus(logits)).mean()
