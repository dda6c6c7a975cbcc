"""The residual generator of SNGAN (Miyato et al. 2018, "Spectral normalization for GANs")."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import InputError, doublings
from medsynth.generator.label import ConditionalBatchNorm2d
from medsynth.generator.output import bounded, check_output
from medsynth.layers.attention import SelfAttention, check_attention

_UPSAMPLINGS = ("nearest", "bilinear")


class ResNetGenerator(nn.Module):
    """A dense layer to 4 x 4 pixels, one residual block for each doubling, batch normalization, ReLU, 3x3, output.

    The last block has ``width`` maps, twice as many with every block before it up to the dense layer, and at most
    ``max_width``: the paper's network for 32 pixels has 256 everywhere (table 3), the one for 128 pixels 1,024, 1,024,
    512, ..., 64 (table 6, with one more block). Labels choose scale and offset of the batch normalization (Miyato and
    Koyama 2018).

    SAGAN's generator (Zhang et al. 2019; ``generator=sagan``) is this one with ``spectral`` and ``attention``; labels
    choose scale and offset before the last convolution too, where the authors' program has one for all classes.

    The paper upsamples by repetition (``nearest``). ``bilinear`` leaves less of the grid of repeated pixels in flat
    regions (docs/presets.md). The paper ends with ``tanh``; see ``output.bounded`` for ``clamp``.

    Args:
        image_size: height and width in pixels; 8, 16, 32, 64, ...
        channels: channels of the images.
        latent_dim: length of the noise.
        width: feature maps of the last block.
        max_width: upper bound of the feature maps.
        upsampling: ``nearest`` or ``bilinear``, of the branch and of the shortcut.
        output: ``clamp`` or ``tanh``: how values are brought into [-1, 1].
        attention: resolution of the maps that self-attention stands behind (``SelfAttention``); None: there is none.
        spectral: spectral normalization of all convolutions and the dense layer, as in SAGAN.
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: ``image_size`` is not 4 times a power of two or has no maps for ``attention``, or another
            ``upsampling`` or ``output``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int = 128,
        width: int = 64,
        max_width: int = 1024,
        upsampling: str = "nearest",
        output: str = "tanh",
        attention: int | None = None,
        spectral: bool = False,
        num_classes: int = 0,
    ):
        super().__init__()
        if upsampling not in _UPSAMPLINGS:
            raise InputError(f"generator.upsampling={upsampling} is unknown: choose {' or '.join(_UPSAMPLINGS)}.")
        check_output(output)
        levels = doublings(image_size, "generator=resnet")
        self.latent_dim = latent_dim
        self.bounded_by = output
        widths = [min(width * 2**level, max_width) for level in range(levels, -1, -1)]
        self.dense = nn.Linear(latent_dim, widths[0] * 4 * 4)
        self.blocks = nn.ModuleList(
            UpsamplingBlock(inputs, outputs, upsampling, num_classes) for inputs, outputs in itertools.pairwise(widths)
        )
        resolutions = [8 * 2**block for block in range(levels)]
        check_attention(attention, resolutions, "generator")
        self.attention_after = -1 if attention is None else resolutions.index(attention)  # the number of a block
        self.attention = nn.Identity() if attention is None else SelfAttention(widths[self.attention_after + 1])
        self.norm = ConditionalBatchNorm2d(widths[-1], num_classes)
        self.output = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.apply(_initialize)
        if spectral:
            self.apply(_normalize)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        x = self.dense(z).view(z.shape[0], -1, 4, 4)  # (N, widths[0], 4, 4)
        for number, block in enumerate(self.blocks):
            x = block(x, labels)
            if number == self.attention_after:
                x = self.attention(x)
        return bounded(self.output(torch.relu(self.norm(x, labels))), self.bounded_by)


class UpsamplingBlock(nn.Module):
    """Normalization, ReLU and 3x3 convolution, twice, beside a 1x1 shortcut: ``(N, in, H, W) -> (N, out, 2H, 2W)``.

    The upsampling stands before the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, upsampling: str, num_classes: int):
        super().__init__()
        self.upsampling = upsampling
        self.norm1 = ConditionalBatchNorm2d(inputs, num_classes)
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = ConditionalBatchNorm2d(outputs, num_classes)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return maps (N, out, 2H, 2W)."""
        branch = interpolate(torch.relu(self.norm1(x, labels)), scale_factor=2, mode=self.upsampling)
        branch = torch.relu(self.norm2(self.convolution1(branch), labels))
        # A 1x1 convolution and the upsampling commute; the convolution first costs a quarter.
        return self.convolution2(branch) + interpolate(self.shortcut(x), scale_factor=2, mode=self.upsampling)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _normalize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        spectral_norm(module)
