"""The generator of FastGAN (Liu et al. 2021).

"Towards faster and stabilized GAN training for high-fidelity few-shot image synthesis", ICLR 2021.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import glu, interpolate

from medsynth.contracts import InputError
from medsynth.generator.label import ConditionalBatchNorm2d
from medsynth.generator.output import bounded, check_output
from medsynth.image_sizes import check_fastgan
from medsynth.layers.attention import SelfAttention, check_attention

# Maps at each resolution over ``width``, as in the authors' configuration.
_MAPS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 1 / 2, 512: 1 / 4, 1024: 1 / 8}


class FastGANGenerator(nn.Module):
    """One convolution for each resolution, gated linear units and skip-layer excitation; small, for few images.

    As in the paper: a transposed 4x4 convolution to 4 x 4 pixels; for each doubling nearest-neighbor upsampling, 3x3
    convolution, batch normalization and gated linear unit; maps at resolution r gate the channels of those at 16 r
    (``SkipLayerExcitation``); weights from N(0, 0.02).

    Not in the paper: images of less than 64 pixels have no such pair, so that 4 x 4 gates the last resolution; labels
    choose scale and offset of the batch normalization. Left out are the noise between layers and the second convolution
    at every other resolution, which the authors' code has and the paper's text has not, since images depend on z alone
    here; and spectral normalization, since batch normalization undoes the scale of all convolutions but the last. The
    program of Projected GAN (Sauer et al. 2021) has no tanh at the end, and divides the noise by its root mean square:
    images are in [-1, 1] here, with ``clamp`` without the tanh, and the length of 256 standard normal numbers varies by
    4 % only.

    Args:
        image_size: height and width in pixels; 16, 32, ..., 1024.
        channels: channels of the images.
        latent_dim: length of the noise.
        width: feature maps at 128 pixels; 16 times as many at 4, 2 times at 64, half at 256.
        initial_value: mean value of the images at the start of the training, in (-1, 1). From mid gray a training
            against a projected discriminator may take the way to dark organs on a bright background, and stays there.
        output: ``clamp`` or ``tanh``: how values are brought into [-1, 1] (``output.bounded``).
        attention: resolution of the maps that self-attention stands behind (``SelfAttention``); None: there is none.
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: ``image_size`` is not a power of two from 16 to 1,024 or has no maps for ``attention``,
            ``initial_value`` is not in (-1, 1), or another ``output``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int = 256,
        width: int = 64,
        initial_value: float = 0.0,
        output: str = "tanh",
        attention: int | None = None,
        num_classes: int = 0,
    ):
        super().__init__()
        if not -1 < initial_value < 1:
            raise InputError(
                f"generator.initial_value={initial_value} must be between -1, the darkest, and 1: choose -0.8 for a "
                "dark background."
            )
        check_output(output)
        self.bounded_by = output
        check_fastgan(image_size)
        resolutions = [resolution for resolution in _MAPS if resolution <= image_size]
        self.latent_dim = latent_dim
        maps = {resolution: max(1, round(width * _MAPS[resolution])) for resolution in resolutions}
        self.ratio = min(16, image_size // 4)
        self.first = nn.ConvTranspose2d(latent_dim, 2 * maps[4], 4, bias=False)
        self.first_norm = ConditionalBatchNorm2d(2 * maps[4], num_classes)
        # The keys are resolutions as text, since ModuleDict takes text only.
        self.upsamplings = nn.ModuleDict(
            {str(size): GatedUpsampling(maps[size // 2], maps[size], num_classes) for size in resolutions[1:]}
        )
        self.excitations = nn.ModuleDict(
            {
                str(size): SkipLayerExcitation(maps[size // self.ratio], maps[size])
                for size in resolutions
                if size // self.ratio in maps
            }
        )
        check_attention(attention, resolutions, "generator")
        self.attention_at = attention
        self.attention = nn.Identity() if attention is None else SelfAttention(maps[attention])
        self.output = nn.Conv2d(maps[image_size], channels, 3, padding=1)
        self.apply(_initialize)
        if initial_value:
            assert self.output.bias is not None
            nn.init.constant_(self.output.bias, math.atanh(initial_value) if output == "tanh" else initial_value)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        x = glu(self.first_norm(self.first(z[:, :, None, None]), labels), dim=1)  # (N, maps, 4, 4)
        if self.attention_at == 4:
            x = self.attention(x)
        at = {4: x}
        for name, upsampling in self.upsamplings.items():
            resolution = int(name)
            x = upsampling(x, labels)
            if name in self.excitations:
                x = self.excitations[name](at[resolution // self.ratio], x)
            if resolution == self.attention_at:
                x = self.attention(x)
            at[resolution] = x
        return bounded(self.output(x), self.bounded_by)


class GatedUpsampling(nn.Module):
    """Nearest-neighbor upsampling, 3x3 convolution, normalization, gate: ``(N, in, H, W) -> (N, out, 2H, 2W)``."""

    def __init__(self, inputs: int, outputs: int, num_classes: int):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False)
        self.norm = ConditionalBatchNorm2d(2 * outputs, num_classes)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return maps (N, out, 2H, 2W)."""
        return glu(self.norm(self.convolution(interpolate(x, scale_factor=2)), labels), dim=1)


class SkipLayerExcitation(nn.Module):
    """Multiply each channel of the high-resolution maps by a gate in (0, 1) computed from the low-resolution maps.

    ``(low (N, low_maps, h, w), high (N, high_maps, H, W)) -> high * gate`` (the paper's section 3.1): the mean over a
    4 x 4 grid, a 4x4 convolution to one position, leaky ReLU, a 1x1 convolution, sigmoid.
    """

    def __init__(self, low_maps: int, high_maps: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(low_maps, high_maps, 4, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(high_maps, high_maps, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the gated maps (N, high_maps, H, W)."""
        return high * self.gate(low)  # (N, high_maps, 1, 1) spread over H and W


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
