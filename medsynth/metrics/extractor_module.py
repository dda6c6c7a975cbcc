"""Feature extractors as PyTorch modules, with a classifier where they have one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from medsynth.contracts import FeatureExtractor

Classifier = Callable[[Tensor], Tensor]  # features (N, num_features) -> logits (N, classes)


class ExtractorModule(FeatureExtractor, Protocol):
    """A ``contracts.FeatureExtractor`` that is an ``nn.Module``."""

    def eval(self) -> Self:
        """Set evaluation mode."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether weights get gradients."""
        ...

    def to(self, device: torch.device) -> Self:
        """Move the weights to ``device``."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the weights."""
        ...


def classifier_of(extractor: FeatureExtractor) -> Classifier | None:
    """Return the classifier on the features of ``extractor``; None: it has none."""
    logits: Classifier | None = getattr(extractor, "logits", None)
    return logits if callable(logits) else None
