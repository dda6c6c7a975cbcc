"""The cross-entropy of logits and labels between 0 and 1, which two losses share."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from medsynth.loss.labels import Labels


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
