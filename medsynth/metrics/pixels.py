"""Coarse pixels as features, which no generator can learn to please as it can a network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d


class PixelExtractor(nn.Module):
    """Mean intensities of ``size x size`` fields: ``(N, C, H, W) -> (N, C * size**2)``; see contracts.FeatureExtractor.

    The Fréchet distance on them knows position and brightness of what is in the images and none of their texture. It is
    cheap, and independent of any backbone: a discriminator on the network of another metric does not bias it.
    """

    name = "pixels"

    def __init__(self, *, channels: int, size: int = 8):
        super().__init__()
        self.size = size
        self.num_features = channels * size**2

    def forward(self, images: Tensor) -> Tensor:
        """Return the averaged pixels (N, num_features) of images (N, C, H, W)."""
        return adaptive_avg_pool2d(images.float(), self.size).flatten(1)
