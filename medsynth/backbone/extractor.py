"""A timm network as what metrics look at images with, such as the embedded ``mini``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth.backbone.network import TimmBackbone


class TimmExtractor(nn.Module):
    """A frozen backbone in float32, whatever the precision around it: see ``contracts.FeatureExtractor``.

    ``logits`` is there if the backbone keeps its classifier (``classifier: true``).

    Args:
        name: goes into the metrics' keys.
        backbone: made for this purpose; the extractor freezes it.
    """

    def __init__(self, *, name: str, backbone: TimmBackbone):
        super().__init__()
        self.name = name
        self.backbone = backbone.float().freeze()
        self.num_features = backbone.num_features
        if backbone.has_classifier:
            self.logits = self._logits

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.backbone(images.float())

    def _logits(self, features: Tensor) -> Tensor:
        """Features (N, num_features) -> logits (N, classes)."""
        with torch.autocast(features.device.type, enabled=False):
            return self.backbone.logits(features.float())
