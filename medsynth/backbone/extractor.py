"""A timm network as a feature extractor of metrics, such as the embedded ``mini``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth.backbone.network import TimmBackbone


class TimmExtractor(nn.Module):
    """A frozen backbone in float32, under autocast too: see ``contracts.FeatureExtractor``.

    It has ``logits`` if the backbone keeps its classifier (``classifier: true``).

    Args:
        name: the end of the metrics' names.
        backbone: used by nothing else; the extractor freezes it.
    """

    def __init__(self, *, name: str, backbone: TimmBackbone):
        super().__init__()
        self.name = name
        self.backbone = backbone.float().freeze()
        self.num_features = backbone.num_features
        if backbone.has_classifier:
            self.logits = self._logits

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, num_features) of images (N, C, H, W) in [-1, 1]."""
        with torch.autocast(images.device.type, enabled=False):
            return self.backbone(images.float())

    def _logits(self, features: Tensor) -> Tensor:
        """Return logits (N, classes) for features (N, num_features)."""
        with torch.autocast(features.device.type, enabled=False):
            return self.backbone.logits(features.float())
