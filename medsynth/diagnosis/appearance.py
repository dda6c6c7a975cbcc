"""Signals of the appearance of generated images, without a network, each relative to real images at equal N.

Most are logarithms to base 2 of a ratio, generated over real: 0 is equal, -1 is half.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from torch import Tensor
from torch.fft import rfft2  # pyright: ignore[reportUnknownVariableType] (without types in PyTorch)
from torch.nn import functional

_EPSILON = 1e-12
_COARSE = 8  # pixels of a side of the small images that layout and nearest images are taken of
_PAIRS = 64  # of images whose similarity is measured
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # the weights of MS-SSIM's scales (Wang et al. 2003)
_WHOLE = 0.05  # standard deviation of an image below which its axis and place mean nothing


def appearance_signals(fake: Tensor, real: Tensor) -> dict[str, float]:
    """Compare the statistics of generated and of real images (N, C, H, W) in [-1, 1].

    * ``variation``: variance over the images, the mean over pixels;
    * ``similarity``: mean MS-SSIM of random pairs, generated minus real (Odena et al. 2017, section 4.2): above 0 where
      generated images are more alike;
    * ``nearest``: median distance of an image to the nearest other one;
    * ``layout``: contrast of the mean image, coarse: low where images have no place for anything, as textures;
    * ``detail``: power of the upper half of the frequencies;
    * ``checkerboard``: power at the frequencies of strides 2 and 4, relative to their neighbors (Odena et al. 2016,
      "Deconvolution and Checkerboard Artifacts");
    * ``brightness_spread``, ``contrast_spread``, ``position_spread``, ``extent_spread``: standard deviation, over the
      images, of the mean, of log contrast, of the center of intensity, and of the log distance of intensity from it;
    * ``brightness_shift``: difference of the means, in standard deviations of the real images' means;
    * ``axis_agreement``: how much the long axes of the images agree (0 to 1), generated minus real;
    * ``border``: standard deviation along the outermost pixels;
    * ``extremes``: share of pixels at the ends of the range, generated minus real.
    """
    of_fake, of_real = _statistics(fake), _statistics(real)
    differences = {"similarity", "axis_agreement", "extremes"}
    signals = {
        name: of_fake[name] - value if name in differences else _log_ratio(of_fake[name], value)
        for name, value in of_real.items()
        if not name.startswith("mean_")
    }
    spread = max(of_real["brightness_spread"], _EPSILON**0.5)
    signals["brightness_shift"] = (of_fake["mean_brightness"] - of_real["mean_brightness"]) / spread
    return signals


def _log_ratio(fake: float, real: float) -> float:
    return math.log2((fake + _EPSILON) / (real + _EPSILON))


def _statistics(images: Tensor) -> dict[str, float]:
    images = images.detach().float().cpu()
    coarse = functional.adaptive_avg_pool2d(images, _COARSE)
    means = images.mean(dim=(1, 2, 3))
    border = torch.cat([images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]], dim=-1)
    return {
        "variation": float(images.var(dim=0).mean()),
        "similarity": _similarity(images),
        "nearest": _nearest(coarse.flatten(1)),
        "layout": float(coarse.mean(dim=0).var(dim=(-2, -1), correction=0).mean()),
        "mean_brightness": float(means.mean()),
        "brightness_spread": float(means.std()),
        "contrast_spread": float((images.std(dim=(1, 2, 3)) + 1e-3).log().std()),
        "border": float(border.std(dim=-1).mean()) + 1e-3,  # a border without anything has no logarithm
        "extremes": float((images.abs() > 1 - 1e-3).float().mean()),
        **_spectrum(images),
        **_moments(images),
    }


def _similarity(images: Tensor) -> float:
    """Return the mean MS-SSIM of pairs of images, with as many scales as the size allows."""
    size = min(images.shape[-2:])
    kernel = 11 if size >= 64 else 5
    scales = max(1, min(len(_SCALES), int(math.log2(max(size / (kernel - 1), 1)))))
    weights = torch.tensor(_SCALES[:scales])
    metric = MultiScaleSSIMMetric(2, data_range=2.0, kernel_size=kernel, weights=(weights / weights.sum()).tolist())
    pairs = min(_PAIRS, len(images) // 2)
    values = cast(Tensor, metric(images[:pairs], images[len(images) - pairs :]))
    return float(values.nan_to_num(0.0).mean())


def _nearest(rows: Tensor) -> float:
    distances = torch.cdist(rows, rows)
    return float(distances.fill_diagonal_(torch.inf).amin(dim=1).median())


def _spectrum(images: Tensor) -> dict[str, float]:
    """Return the power of high frequencies, and that of the strides' frequencies over their neighbors'."""
    height, width = images.shape[-2:]
    centered = images - images.mean(dim=(-2, -1), keepdim=True)
    power = cast(Tensor, rfft2(centered)).abs().square().mean(dim=(0, 1)) / (height * width)
    vertical = torch.fft.fftfreq(height)[:, None].abs()
    horizontal = torch.arange(power.shape[1])[None] / width
    frequency = torch.hypot(vertical, horizontal)
    of_grid = torch.zeros_like(power, dtype=torch.bool)
    for stride in (2, 4):
        for row in range(0, height, height // stride):
            for column in range(0, width // 2 + 1, width // stride):
                of_grid[row, column] = row + column > 0
    near = functional.max_pool2d(of_grid.float()[None], 5, stride=1, padding=2)[0].bool() & ~of_grid
    near[0, 0] = False
    return {
        "detail": float(power[(frequency > 0.25) & ~of_grid].mean()),
        "checkerboard": float(power[of_grid].mean() / (power[near].mean() + _EPSILON)),
    }


def _moments(images: Tensor) -> dict[str, float]:
    """Return the spread of the center and of the extent of intensity, in sides, and the agreement of the long axes."""
    image = images.mean(dim=1)
    mass = image - image.amin(dim=(-2, -1), keepdim=True)
    mass = mass / mass.sum(dim=(-2, -1), keepdim=True).clamp(min=_EPSILON)
    rows = torch.linspace(-0.5, 0.5, image.shape[-2])[:, None]
    columns = torch.linspace(-0.5, 0.5, image.shape[-1])
    row, column = ((mass * axis).sum(dim=(-2, -1)) for axis in (rows, columns))
    down, right = rows - row[:, None, None], columns - column[:, None, None]
    vertical, horizontal, mixed = ((mass * m).sum(dim=(-2, -1)) for m in (down.square(), right.square(), down * right))
    extent = (vertical + horizontal).clamp(min=_EPSILON).sqrt()
    # The doubled angle of the long axis as a vector, whose length is how long the axis is.
    axis = torch.stack([horizontal - vertical, 2 * mixed]) / extent.square()
    whole = images.std(dim=(1, 2, 3)) > _WHOLE
    agreement = axis[:, whole].mean(dim=1).norm() / axis[:, whole].norm(dim=0).mean() if whole.any() else 0.0
    return {
        "position_spread": float(torch.hypot(row.std(), column.std())),
        "extent_spread": float(extent.log().std()),
        "axis_agreement": float(agreement),
    }
