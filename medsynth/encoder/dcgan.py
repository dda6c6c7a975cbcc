"""The encoder that mirrors DCGAN's generator (Radford, Metz and Chintala 2016): its discriminator without the logit."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from medsynth.contracts import InputError, doublings


class DCGANEncoder(nn.Module):
    """Strided 4x4 convolutions down to 4 x 4 pixels, leaky ReLU, and linear units for mean and log variance.

    Args:
        image_size: height and width in pixels; 8, 16, 32, 64, ...
        channels: channels of the images.
        latent_dim: length of the generator's noise.
        width: feature maps of the first layer; doubled with every halving of the resolution.
        max_width: upper bound of the feature maps.
        normalization: ``batch`` (none in the first layer) or ``none``.

    Raises:
        InputError: an unknown normalization, or an ``image_size`` that is not 4 times a power of two.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        width: int = 64,
        max_width: int = 512,
        normalization: str = "batch",
    ):
        super().__init__()
        if normalization not in ("batch", "none"):
            raise InputError(f"encoder.normalization={normalization} is unknown: choose batch or none.")
        levels = doublings(image_size, "encoder=dcgan")
        widths = [channels, *(min(width * 2**level, max_width) for level in range(levels))]
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            normalized = normalization == "batch" and level > 0
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not normalized))
            layers += [nn.BatchNorm2d(outputs)] if normalized else []
            layers.append(nn.LeakyReLU(0.2))
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, 2 * latent_dim))
        self.apply(_initialize)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and logarithms of variances, (N, latent_dim) each."""
        mean, log_variance = self.layers(images).chunk(2, dim=1)
        return mean, log_variance


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
