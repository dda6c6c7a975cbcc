"""Images larger than those that a network was trained on: overlapping patches, blended where they overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def translated(
    images: Sequence[Tensor],
    translate: Callable[[Tensor], Tensor],
    *,
    size: int,
    overlap: float,
    batch_size: int,
) -> list[Tensor]:
    """Translate images of any size by patches of one size.

    Args:
        images: (C, H, W) each, of one size.
        translate: patches (n, C, size, size) -> (n, C', size, size).
        size: height and width of the patches in pixels; smaller images are enlarged by repeating their border.
        overlap: fraction of a patch that it shares with the next one, 0 or more and less than 1.
        batch_size: patches translated at a time.

    Returns:
        float32 (C', H, W) each: the mean of the patches at each pixel, weighted by a ramp that falls towards a patch's
        border over the overlap.
    """
    height, width = images[0].shape[-2:]
    padded = torch.stack([_padded(image, size) for image in images])
    rows, columns = (starts(extent, size, overlap) for extent in padded.shape[-2:])
    places = [(top, left) for top in rows for left in columns]
    patches = torch.cat([padded[:, :, top : top + size, left : left + size] for top, left in places])
    results = torch.cat([translate(batch) for batch in patches.split(batch_size)])
    weight = _weights(size, overlap)
    total = results.new_zeros((len(images), results.shape[1], *padded.shape[-2:]))
    weights = results.new_zeros(padded.shape[-2:])
    for (top, left), patch in zip(places, results.split(len(images)), strict=True):
        total[:, :, top : top + size, left : left + size] += weight * patch
        weights[top : top + size, left : left + size] += weight
    top, left = _margins(height, size)[0], _margins(width, size)[0]
    return list((total / weights)[:, :, top : top + height, left : left + width])


def starts(extent: int, size: int, overlap: float) -> list[int]:
    """Return the first pixels of patches that cover ``extent`` pixels evenly and share ``overlap`` of them at least."""
    if extent <= size:
        return [0]
    count = math.ceil((extent - size) / max(1, math.floor(size * (1 - overlap)))) + 1
    return [round(number * (extent - size) / (count - 1)) for number in range(count)]


def _weights(size: int, overlap: float) -> Tensor:
    distance = torch.minimum(torch.arange(size), torch.arange(size).flip(0)) + 0.5
    ramp = (distance / max(1.0, size * overlap)).clamp(max=1)
    return torch.outer(ramp, ramp)


def _margins(extent: int, size: int) -> tuple[int, int]:
    missing = max(0, size - extent)
    return missing // 2, missing - missing // 2


def _padded(image: Tensor, size: int) -> Tensor:
    height, width = image.shape[-2:]
    margins = (*_margins(width, size), *_margins(height, size))
    return functional.pad(image[None], margins, mode="replicate")[0] if any(margins) else image
