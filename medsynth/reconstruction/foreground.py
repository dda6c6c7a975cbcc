"""Means over the foreground of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


def foreground_mean(values: Tensor, mask: Tensor | None, *, outside: float = 0.0) -> Tensor:
    """Return the mean over images of the weighted means over each image's pixels; a scalar.

    Args:
        values: (N, C, H, W).
        mask: (N, 1, H', W'), 1 where pixels count; averaged to H x W where it is larger. An image all of whose weights
            are 0 contributes 0. None: all pixels count.
        outside: weight of the pixels where the mask is 0.
    """
    if mask is None:
        return values.mean()
    if mask.shape[2:] != values.shape[2:]:
        mask = adaptive_avg_pool2d(mask, (values.shape[2], values.shape[3]))
    counted = (outside + (1 - outside) * mask.to(values.dtype)).expand_as(values)
    sums = (values * counted).flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp(min=1e-6)
    return sums.mean()
