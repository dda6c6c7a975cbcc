"""Labels for discriminators."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectedLogit(nn.Module):
    """One linear unit on pooled features, plus their inner product with the label's embedding.

    Projection conditioning (Miyato and Koyama 2018, equation 5): ``(N, num_features), (N,) -> (N, 1)``.
    """

    def __init__(self, num_features: int, num_classes: int, *, bias: bool):
        super().__init__()
        self.linear = nn.Linear(num_features, 1, bias=bias)
        self.embedding = nn.Embedding(num_classes, num_features) if num_classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)  # starts as the unconditional discriminator

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = self.linear(features)
        if self.embedding is None:
            return logits
        assert labels is not None, "a conditional discriminator needs labels"
        return logits + (self.embedding(labels) * features).sum(dim=1, keepdim=True)
