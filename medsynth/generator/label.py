"""Labels for generators that know none of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabeledNoise(nn.Module):
    """Noise with a learned embedding of the label appended (Mirza and Osindero 2014, section 3).

    ``(z (N, latent_dim), labels (N,) or None) -> (N, out_features)``. Without classes it is the identity.
    """

    def __init__(self, latent_dim: int, num_classes: int, embedding_dim: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        self.out_features = latent_dim + (embedding_dim if num_classes else 0)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is None:
            return z
        assert labels is not None, "a conditional generator needs labels"
        return torch.cat([z, self.embedding(labels)], dim=1)
