"""Measures of translations against their targets, a value for each image, and of the source copied unchanged.

All have ``output`` and ``target`` (N, C, H, W) in [-1, 1], and a ``mask`` (N, 1, H, W) that is 1 where pixels count;
None: all count. Values are in the physical unit of ``intensity``, float64 (N,); NaN for an image whose mask is empty.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from medsynth.contracts import Intensity
from medsynth.layers.translation import middle

_KERNEL = 11  # height and width of SSIM's Gaussian window, with a deviation of 1.5 pixels (Wang et al. 2004)
_SCALES = 5  # of MS-SSIM (Wang et al. 2003)
_MOST_DECIBELS = 100.0  # of two equal images, whose PSNR would be infinite


def paired_measures(output: Tensor, target: Tensor, mask: Tensor | None, intensity: Intensity) -> dict[str, Tensor]:
    """Return all measures (N,) by name: those of ``configuration.objectives.PAIRED_MEASURES`` that suit the size.

    ``mae`` is the mean absolute and ``mse`` the mean squared difference, in the unit and its square. ``psnr`` is the
    ratio of the squared range, ``high - low``, to ``mse``, in decibels, 100 at most. ``ssim`` and ``ms_ssim`` are
    those of the values from 0 (``low``) to 1 (``high``), so that they do not depend on where the unit has its zero.
    """
    output, target = output.double(), target.double()
    extent = abs(intensity.high - intensity.low)
    squared = mean_squared_error(output, target, mask) * (extent / 2) ** 2
    measures = {
        "mae": mean_absolute_error(output, target, mask) * (extent / 2),
        "mse": squared,
        "psnr": (10 * torch.log10(extent**2 / squared)).clamp(max=_MOST_DECIBELS),
    }
    if min(target.shape[2:]) >= _KERNEL:
        measures["ssim"] = structural_similarity(output, target, mask)
    if min(target.shape[2:]) > (_KERNEL - 1) * 2 ** (_SCALES - 1):
        measures["ms_ssim"] = multiscale_similarity(output, target, mask)
    return measures


def mean_absolute_error(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean absolute difference (N,) of values in [-1, 1]."""
    return masked_mean((output - target).abs(), mask)


def mean_squared_error(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared difference (N,) of values in [-1, 1]."""
    return masked_mean((output - target).square(), mask)


def structural_similarity(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return SSIM (N,), the mean over the pixels that count and whose window lies inside the image."""
    _, windows = structural_similarity_index_measure(
        output / 2 + 0.5, target / 2 + 0.5, data_range=1.0, reduction="none", return_full_image=True
    )
    margin = _KERNEL // 2
    inside = (slice(None), slice(None), slice(margin, -margin or None), slice(margin, -margin or None))
    return masked_mean(windows[inside], None if mask is None else mask[inside])


def multiscale_similarity(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return MS-SSIM (N,); where pixels do not count, the target stands in the output's place.

    Raises:
        ValueError: the images have 160 pixels or less in height or width.
    """
    if mask is not None:
        output = torch.where(mask > 0.5, output, target)
    values = multiscale_structural_similarity_index_measure(
        output / 2 + 0.5, target / 2 + 0.5, data_range=1.0, reduction="none"
    )
    empty = torch.zeros(len(target), dtype=torch.bool) if mask is None else mask.flatten(1).sum(dim=1) == 0
    return values.reshape(-1).masked_fill(empty.to(values.device), torch.nan)


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean (N,) of values (N, C, H, W) over the pixels that count; NaN where none does."""
    if mask is None:
        return values.flatten(1).mean(dim=1)
    counted = mask.to(values.dtype).expand_as(values).flatten(1)
    return (values.flatten(1) * counted).sum(dim=1) / counted.sum(dim=1)


def copied(source: Tensor, *, channels: int, source_intensity: Intensity | None, intensity: Intensity) -> Tensor:
    """Return the source as if it were its own translation, (N, C, H, W) in the targets' [-1, 1].

    Of several neighboring slices in ``source`` (N, C_source, H, W) the middle one. Where both sides have the same unit,
    its physical values are kept; else its values in [-1, 1].
    """
    image = middle(source, channels)
    if source_intensity is None or source_intensity.unit != intensity.unit or source_intensity == intensity:
        return image
    physical = source_intensity.to_physical(image)
    return ((physical - intensity.low) / (intensity.high - intensity.low) * 2 - 1).clamp(-1, 1)
