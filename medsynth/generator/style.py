"""The generator of StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN")."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from medsynth.contracts import InputError, doublings
from medsynth.generator.output import bounded, check_output
from medsynth.generator.random_input import normal_maps, normal_rows, uniform_rows
from medsynth.layers.equalized import EqualizedLinear, activated
from medsynth.layers.resampling import blurred, doubled

_SMALLEST = 1e-8  # is added to sums of squares before they divide


class StyleGenerator(nn.Module):
    """A mapping network z -> w, and a synthesis network whose convolutions are modulated by w (figures 2 and 7).

    As in the paper's configuration E or F: dense layers with a hundredth of the learning rate map the normalized noise
    to w; a learned constant of 4 x 4 pixels passes two 3x3 convolutions for each resolution (one at 4 x 4), the first
    of them doubling it; each is modulated and demodulated by an affine map of w (``ModulatedConv2d``), and followed by
    noise of a learned strength, biases and leaky ReLU; 1x1 convolutions without demodulation take the maps of each
    resolution to an image, which is added to the doubled image of the resolution before. All learning rates are
    equalized. A label's embedding, normalized, is joined to the noise, as in StyleGAN2-ADA (Karras et al. 2020).

    All randomness follows from z (``random_input``): an image's noise inputs, and in training mode the second w of
    style mixing and the layer from which it is used, which are drawn for each image. So z alone determines an image, a
    run resumes exactly, and nothing depends on the number of processes. The paper draws them independently; z being
    drawn anew for each image, the images have the same distribution.

    Args:
        image_size: height and width in pixels; 8, 16, 32, ...
        channels: channels of the images.
        latent_dim: length of the noise; 512 in the paper.
        style_dim: length of w and width of the mapping network; 512 in the paper.
        mapping_layers: of the mapping network; 8 in the paper.
        mapping_rate: multiplier of the learning rate in the mapping network; 0.01 in the paper.
        width: feature maps at full resolution; doubled with every halving. The paper has 32 at 1,024 pixels.
        max_width: upper bound of the feature maps; 512 in the paper.
        mixing: probability with which, in training, an image has the w of another noise from some layer on; 0.9 in the
            paper.
        output: ``clamp`` or ``tanh``: how values are brought into [-1, 1] (``output.bounded``); the paper has neither.
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: ``image_size`` is not 4 times a power of two, ``mixing`` no probability, or another ``output``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 8,
        mapping_rate: float = 0.01,
        width: int = 32,
        max_width: int = 512,
        mixing: float = 0.9,
        output: str = "clamp",
        num_classes: int = 0,
    ):
        super().__init__()
        levels = doublings(image_size, "generator=style")
        check_output(output)
        if not 0 <= mixing <= 1:
            raise InputError(f"generator.mixing={mixing} must be a probability, from 0 to 1.")
        self.latent_dim = latent_dim
        self.mixing = mixing
        self.bounded_by = output
        self.mapping = MappingNetwork(latent_dim, style_dim, mapping_layers, mapping_rate, num_classes)
        widths = [min(width * 2**level, max_width) for level in range(levels, -1, -1)]
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList([StyledLayer(widths[0], widths[0], style_dim, stream=0)])
        for before, after in itertools.pairwise(widths):
            stream = len(self.layers)
            self.layers.append(StyledLayer(before, after, style_dim, stream=stream, double=True))
            self.layers.append(StyledLayer(after, after, style_dim, stream=stream + 1))
        self.images = nn.ModuleList(ImageLayer(maps, channels, style_dim) for maps in widths)
        self.num_styles = len(self.layers) + 1  # the last image has one of its own, each other that of the next layer

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        return self.synthesize(self.styles(z, labels), z)

    def styles(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return w of each layer (N, num_styles, style_dim); in training mode mixed."""
        w = self.mapping(z, labels)[:, None].expand(-1, self.num_styles, -1)
        if not self.training or self.mixing == 0:
            return w
        other = self.mapping(normal_rows(z), labels)[:, None]
        chance, place = uniform_rows(z, 2)  # (N,) each
        start = 1 + (place * (self.num_styles - 1)).long()  # the first layer with the other w, from 1 on
        start = torch.where(chance < self.mixing, start, self.num_styles)
        return torch.where((torch.arange(self.num_styles, device=z.device) < start[:, None])[:, :, None], w, other)

    def synthesize(self, styles: Tensor, z: Tensor) -> Tensor:
        """Return the images (N, C, H, W) of ``styles``, with the noise inputs that belong to ``z``."""
        w = styles.unbind(dim=1)
        x = self.layers[0](self.constant.expand(z.shape[0], -1, -1, -1), w[0], z)
        image = self.images[0](x, w[1])
        for level in range(1, len(self.images)):
            x = self.layers[2 * level - 1](x, w[2 * level - 1], z)
            x = self.layers[2 * level](x, w[2 * level], z)
            image = doubled(image) + self.images[level](x, w[2 * level + 1])
        return bounded(image, self.bounded_by)


class MappingNetwork(nn.Module):
    """Normalized noise [and embedded label] -> w, by dense layers and leaky ReLU: ``(N, latent_dim) -> (N, out)``.

    Args:
        latent_dim: length of the noise.
        style_dim: length of w, and of all layers before.
        layers: number of dense layers.
        rate: multiplier of their learning rate.
        num_classes: classes of the labels; 0: no embedding.

    Raises:
        InputError: no layer.
    """

    def __init__(self, latent_dim: int, style_dim: int, layers: int, rate: float, num_classes: int):
        super().__init__()
        if layers < 1:
            raise InputError(f"generator.mapping_layers={layers} must be 1 or more.")
        self.embedding = nn.Embedding(num_classes, style_dim) if num_classes else None
        inputs = latent_dim + (style_dim if num_classes else 0)
        sizes = [inputs, *[style_dim] * layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(before, after, rate=rate) for before, after in itertools.pairwise(sizes)
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return w (N, style_dim)."""
        x = _normalized(z)
        if self.embedding is not None:
            assert labels is not None, "a conditional generator needs labels"
            x = torch.cat([x, _normalized(self.embedding(labels))], dim=1)
        for layer in self.layers:
            x = activated(layer(x))
        return x


class ModulatedConv2d(nn.Module):
    """A convolution whose input maps are scaled by an affine map of w, and its output maps back to a deviation of 1.

    ``(x (N, inputs, H, W), w (N, style_dim)) -> (N, outputs, H, W)`` by the weights ``s_i k_oi`` of each image, divided
    by the root of their sum of squares over inputs and positions (equations 1 to 3). Scaling the maps before and after
    a convolution that all images share is the same, and faster than a kernel for each image. With ``double``, H and W
    are doubled by a transposed convolution, and the result blurred.

    Args:
        inputs: maps.
        outputs: maps.
        size: height and width of the kernel; odd.
        style_dim: length of w.
        double: double the resolution; a size of 3 then.
        demodulate: scale the outputs back.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, style_dim: int, *, double: bool = False, demodulate: bool = True
    ):
        super().__init__()
        self.affine = EqualizedLinear(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.gain = 1 / math.sqrt(inputs * size**2)
        self.doubles = double
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return maps (N, outputs, H, W) or (N, outputs, 2 H, 2 W)."""
        scales = self.affine(w)  # (N, inputs)
        weight = self.weight * self.gain
        x = x * scales[:, :, None, None]
        if self.doubles:
            x = blurred(conv_transpose2d(x, weight.transpose(0, 1), stride=2), margin=1, gain=4.0)
        else:
            x = conv2d(x, weight, padding=weight.shape[2] // 2)
        return x * self._inverse_norms(scales, weight)[:, :, None, None] if self.demodulate else x

    def _inverse_norms(self, scales: Tensor, weight: Tensor) -> Tensor:
        """Return ``1 / sqrt(sum (s_i k_oi)^2)`` (N, outputs)."""
        with torch.autocast(scales.device.type, enabled=False):
            squares = scales.square() @ weight.square().sum(dim=(2, 3)).T
            return (squares + _SMALLEST).rsqrt()


class StyledLayer(nn.Module):
    """A modulated 3x3 convolution, noise of a learned strength from 0, biases, leaky ReLU.

    Args:
        inputs: maps.
        outputs: maps.
        style_dim: length of w.
        stream: number of the layer, by which its noise differs from that of the others.
        double: double the resolution.
    """

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, stream: int, double: bool = False):
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style_dim, double=double)
        self.stream = stream
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, z: Tensor) -> Tensor:
        """Return maps (N, outputs, H, W) or (N, outputs, 2 H, 2 W); the noise is that of ``z``."""
        x = self.convolution(x, w)
        noise = normal_maps(z, x.shape[2], x.shape[3], stream=self.stream).to(x.dtype)
        return activated(x + self.strength * noise + self.bias[:, None, None])


class ImageLayer(nn.Module):
    """A modulated 1x1 convolution to an image, not demodulated, and biases: the paper's tRGB.

    Args:
        inputs: maps.
        channels: of the image.
        style_dim: length of w.
    """

    def __init__(self, inputs: int, channels: int, style_dim: int):
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, channels, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return images (N, channels, H, W)."""
        return self.convolution(x, w) + self.bias[:, None, None]


def _normalized(x: Tensor) -> Tensor:
    """Divide each row by its root mean square."""
    return x * (x.square().mean(dim=1, keepdim=True) + _SMALLEST).rsqrt()
