"""The discriminator of the reference system (Tomsk, 2020): an ImageNet backbone and a small trained head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsynth.contracts import Backbone
from medsynth.discriminator.label import ProjectedLogit


class TransferDiscriminator(nn.Module):
    """Pooled features of a backbone, standardized, and one linear unit without bias.

    With ``frozen``, ``features`` are the standardized ones and the head alone is trained: with Xception 2,048 weights,
    as in the paper. Otherwise the backbone is fine-tuned as a part of ``head``, and ``features`` is the identity.

    The paper's head is, most plausibly, batch normalization without scale and offset before the unit. Computed over a
    batch it would take away the mean of each batch, real or fake, and with it the only thing that a linear unit can
    tell them apart by. So its running statistics are used, estimated on real images by ``calibrate``, then left alone.
    For the same reason a fine-tuned backbone keeps its running statistics; its weights and scales are trained.

    Args:
        backbone: images -> (N, num_features).
        frozen: keep the backbone's weights and statistics as they are.
        num_classes: classes of the labels; 0 means unconditional.
    """

    def __init__(self, *, backbone: Backbone, frozen: bool = True, num_classes: int = 0):
        super().__init__()
        self.backbone = backbone.eval()
        self.frozen = frozen
        if frozen:
            backbone.freeze()
        self.norm = nn.BatchNorm1d(backbone.num_features, affine=False).eval()
        self.logit = ProjectedLogit(backbone.num_features, num_classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        return self._standardized(images) if self.frozen else images

    def head(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.logit(features if self.frozen else self._standardized(features), labels)

    def _standardized(self, images: Tensor) -> Tensor:
        return self.norm(self.backbone(images).float())  # (N, num_features)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.features(images), labels)

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate random weights' statistics, then mean and variance of the features, on real images in [-1, 1]."""
        self.backbone.calibrate(batches)
        pooled = torch.cat([self.backbone(images).float() for images in batches])
        self.norm.running_mean.copy_(pooled.mean(dim=0))
        # A unit that is dead on real images keeps a finite weight: without a floor it would outweigh all the others.
        variance = pooled.var(dim=0)
        self.norm.running_var.copy_(variance.clamp_min(1e-2 * variance.mean().clamp_min(1e-12)))

    def train(self, mode: bool = True) -> TransferDiscriminator:
        super().train(mode)
        self.backbone.eval()
        self.norm.eval()
        return self
