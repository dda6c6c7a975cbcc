"""Conditioning of generators on labels: by the noise, or by batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabeledNoise(nn.Module):
    """Append a learned embedding of the label to the noise (Mirza and Osindero 2014, section 3).

    ``(z (N, latent_dim), labels (N,) or None) -> (N, out_features)``. Without classes it is the identity.
    """

    def __init__(self, latent_dim: int, num_classes: int, embedding_dim: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        self.out_features = latent_dim + (embedding_dim if num_classes else 0)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return noise with the label's embedding (N, out_features)."""
        if self.embedding is None:
            return z
        assert labels is not None, "a conditional generator needs labels"
        return torch.cat([z, self.embedding(labels)], dim=1)


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalization with a scale and an offset for each class (de Vries et al. 2017; Miyato and Koyama 2018).

    ``(x (N, num_features, H, W), labels (N,) or None) -> x`` normalized over the whole batch, then scaled and shifted
    by learned values of the label. Scales start from N(1, 0.02), so that classes differ from the first step.
    Without classes it is batch normalization with one learned scale and offset.
    """

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(num_features, affine=not num_classes)
        self.scale = nn.Embedding(num_classes, num_features) if num_classes else None
        self.offset = nn.Embedding(num_classes, num_features) if num_classes else None
        if self.scale is not None and self.offset is not None:
            nn.init.normal_(self.scale.weight, 1.0, 0.02)
            nn.init.zeros_(self.offset.weight)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return normalized maps (N, num_features, H, W)."""
        x = self.norm(x)
        if self.scale is None or self.offset is None:
            return x
        assert labels is not None, "a conditional generator needs labels"
        return x * self.scale(labels)[:, :, None, None] + self.offset(labels)[:, :, None, None]
