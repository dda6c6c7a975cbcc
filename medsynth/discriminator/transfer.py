"""The discriminator of the reference system (Tomsk, 2020): an ImageNet backbone and a small trained head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsynth.contracts import Backbone
from medsynth.discriminator.label import ProjectedLogit


class TransferDiscriminator(nn.Module):
    """Pooled features of a backbone, normalization without scale and offset, and one linear unit without bias.

    With ``frozen``, ``features`` are the backbone's and the head alone is trained: with Xception 2,048 weights, as in
    the paper. Otherwise the backbone is fine-tuned as a part of ``head``, and ``features`` is the identity.

    The paper's head is, most plausibly, batch normalization before the unit. Computed over a batch of one side it would
    take away the mean of that side, and with it what a linear unit tells them apart by: every batch, real or fake,
    would have the mean logit 0. So the running statistics of both sides are used, which is what batch normalization
    converges to. They start from real images (``calibrate``) and follow what the head sees while it is trained. For the
    same reason a fine-tuned backbone keeps its own running statistics; its weights and scales are trained.

    Args:
        backbone: images -> (N, num_features).
        frozen: keep the backbone's weights and statistics as they are.
        momentum: of the running statistics, per batch (Keras's default).
        num_classes: classes of the labels; 0 means unconditional.
    """

    def __init__(self, *, backbone: Backbone, frozen: bool = True, momentum: float = 0.01, num_classes: int = 0):
        super().__init__()
        self.backbone = backbone.eval()
        self.frozen = frozen
        if frozen:
            backbone.freeze()
        self.norm = nn.BatchNorm1d(backbone.num_features, affine=False, momentum=momentum)
        self.logit = ProjectedLogit(backbone.num_features, num_classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        return self.backbone(images) if self.frozen else images

    def head(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        pooled = (features if self.frozen else self.backbone(features)).float()
        if self.training and self.logit.linear.weight.requires_grad:  # the head's own turn
            self._follow(pooled.detach())
        return self.logit(self._normalized(pooled), labels)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.features(images), labels)

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate random weights' statistics, then mean and variance of the features, on real images in [-1, 1]."""
        self.backbone.calibrate(batches)
        pooled = torch.cat([self.backbone(images).float() for images in batches])
        self.norm.running_mean.copy_(pooled.mean(dim=0))
        self.norm.running_var.copy_(pooled.var(dim=0))

    @torch.no_grad()
    def _follow(self, pooled: Tensor) -> None:
        self.norm.running_mean.lerp_(pooled.mean(dim=0), self.norm.momentum)
        self.norm.running_var.lerp_(pooled.var(dim=0), self.norm.momentum)

    def _normalized(self, pooled: Tensor) -> Tensor:
        # Copies: the statistics move on before the backward pass.
        mean, variance = self.norm.running_mean.clone(), self.norm.running_var.clone()
        # A unit that is dead on all images keeps a finite weight: without a floor it would outweigh all the others.
        floor = 1e-2 * variance.mean() + self.norm.eps * 1e-3
        return (pooled - mean) * variance.clamp_min(floor).rsqrt()  # (N, num_features)

    def train(self, mode: bool = True) -> TransferDiscriminator:
        super().train(mode)
        self.backbone.eval()
        return self
