"""The fully connected baseline (Goodfellow et al. 2014 used such generators)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsynth.generator.label import LabeledNoise


class MLPGenerator(nn.Module):
    """Dense layers with batch normalization and leaky ReLU, then tanh, without any structure of neighboring pixels.

    Args:
        image_size: height and width in pixels; any.
        channels: channels of the images.
        latent_dim: length of the noise.
        widths: units of the hidden layers.
        num_classes: classes of the labels; 0 means unconditional.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int = 100,
        widths: Sequence[int] = (256, 512, 1024),
        num_classes: int = 0,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.shape = (channels, image_size, image_size)
        self.condition = LabeledNoise(latent_dim, num_classes)
        layers: list[nn.Module] = []
        inputs = self.condition.out_features
        for outputs in widths:
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, channels * image_size**2), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        return self.layers(self.condition(z, labels)).view(z.shape[0], *self.shape)
