"""Pictures of points: images of 2 channels and one pixel, whose values are coordinates."""

from __future__ import annotations

import numpy as np

_PIXELS = 160  # of the picture's sides, from -1 to 1
_RADIUS = 1  # of a point, in pixels


def drawable(images: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W) in [-1, 1] as they are, and points (N, 2, 1, 1) as one picture (1, 1, H, H) of all.

    The first coordinate goes from left to right, the second from bottom to top; points are dark.
    """
    if images.shape[1:] != (2, 1, 1):
        return images
    canvas = np.ones((_PIXELS, _PIXELS), dtype=np.float32)
    places = np.round((np.clip(images[:, :, 0, 0], -1, 1) + 1) / 2 * (_PIXELS - 1)).astype(int)
    for column, height in places:
        row = _PIXELS - 1 - height
        canvas[max(row - _RADIUS, 0) : row + _RADIUS + 1, max(column - _RADIUS, 0) : column + _RADIUS + 1] = -1
    return canvas[None, None]
