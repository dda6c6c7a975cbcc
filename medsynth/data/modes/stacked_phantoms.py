"""Drawn slices that are products of independent attributes, 216 countable modes, and the reader of the attributes.

After Stacked MNIST (Metz et al. 2017, Srivastava et al. 2017), whose 1,000 modes are the products of three digits and
need a trained classifier. Here an organ (three shapes, two sizes, brighter or darker than the tissue, left or right, at
three heights) is drawn beside a lesion (none, bright, dark): 3 * 2 * 2 * 2 * 3 * 3 modes, and each of them has a
template, the drawing without what varies within a mode, so that images are read analytically.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import torch
from torch import Tensor

from medsynth.data.errors import check_least
from medsynth.data.modes.source import GOOD_FOR_NONE, ModeSource
from medsynth.errors import InputError

# Lengths in units of 1/16 of the image's side.
_SHAPES = {"round": (1.0, 1.0), "wide": (1.45, 0.6), "tall": (0.6, 1.45)}  # semi-axes, relative to the size
_SIZES = {"small": 1.8, "large": 2.8}
_CONTRASTS = {"bright": 0.6, "dark": -0.6}  # added to the tissue
_SIDES = {"left": -3.7, "right": 3.7}  # of the middle; the lesion is on the other side
_HEIGHTS = {"upper": -3.6, "middle": 0.0, "lower": 3.6}
_LESIONS = {"healthy": 0.0, "bright lesion": 0.8, "dark lesion": -0.8}
_LESION_RADIUS = 1.4
_ATTRIBUTES = (_SHAPES, _SIZES, _CONTRASTS, _SIDES, _HEIGHTS, _LESIONS)

GOOD_WITHIN = 0.15  # root mean square difference from the template
GOOD_SHARE = 0.25  # of the way from the template to that of any other mode
_AT_ONCE = 1024


@dataclasses.dataclass(kw_only=True)
class StackedPhantoms(ModeSource):
    """Gray slices of 216 modes; within a mode contrast (10 %), position (a tenth of 1/16 of the side) and noise vary.

    An image counts as good where it differs from a mode's template by at most 0.15 (root mean square over pixels, in
    units of [-1, 1]; the noise alone makes 0.05), and where, along the line from this template to that of any other
    mode, it lies in the first quarter: half a lesion, or an organ between two sizes, is no good image.
    """

    image_size: int = 16
    channels: int = 1
    num_images: int = 20_000
    num_val: int = 2500
    num_test: int = 2500
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("data.image_size", self.image_size, 16)
        check_least("data.source.noise", self.noise, 0)
        if self.channels != 1:
            raise InputError(f"data.channels={self.channels} is not possible: these images are gray, data.channels=1.")

    @property
    def templates(self) -> np.ndarray:
        """The modes' drawings ``(216, H, W)``."""
        return _templates(self.image_size)

    def modes(self, images: Tensor) -> Tensor:
        """Return the mode (N,) whose template is nearest to each image (N, 1, H, W), and -1 where it is no good one."""
        templates = torch.from_numpy(self.templates).to(images.device).flatten(1)
        apart = torch.cdist(templates, templates).square()
        return torch.cat([_read(rows, templates, apart) for rows in images.flatten(1).double().split(_AT_ONCE)])

    def _names(self) -> tuple[str, ...]:
        return tuple(" ".join(names) for names in itertools.product(*_ATTRIBUTES))

    def _draw(self, modes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = len(modes)
        contrast, shift = rng.uniform(0.9, 1.1, count), rng.normal(0, 0.1, (count, 2))
        clean = _drawn(modes, self.image_size, contrast=contrast, shift=shift)
        return (clean + self.noise * rng.standard_normal(clean.shape))[:, None]


def _read(images: Tensor, templates: Tensor, apart: Tensor) -> Tensor:
    """Return the modes of flat images; ``apart`` are the squared distances (K, K) of the templates."""
    squared = torch.cdist(images, templates).square()
    nearest = squared.min(dim=1)
    # By the law of cosines, the share of the way from the nearest template to each other one.
    others = apart[nearest.indices]
    share = (others + nearest.values[:, None] - squared) / (2 * others)
    share = share.scatter(1, nearest.indices[:, None], 0.0).amax(dim=1)
    good = ((nearest.values / images.shape[1]).sqrt() <= GOOD_WITHIN) & (share <= GOOD_SHARE)
    return torch.where(good, nearest.indices, GOOD_FOR_NONE)


@functools.lru_cache(maxsize=4)
def _templates(image_size: int) -> np.ndarray:
    count = len(list(itertools.product(*_ATTRIBUTES)))
    return _drawn(np.arange(count), image_size, contrast=np.ones(count), shift=np.zeros((count, 2)))


def _drawn(modes: np.ndarray, image_size: int, *, contrast: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Draw images ``(N, H, W)`` without noise; ``shift`` (N, 2) moves the organ and its lesion."""
    chosen = np.unravel_index(modes, [len(values) for values in _ATTRIBUTES])
    shapes, *values = (np.array(list(table.values()))[index] for table, index in zip(_ATTRIBUTES, chosen, strict=True))
    size, organ, side, height, lesion = values
    middle = np.stack([side, height], axis=1) + shift
    image = organ[:, None, None] * contrast[:, None, None] * _ellipses(middle, size[:, None] * shapes, image_size)
    middle = np.stack([-side, np.zeros_like(side)], axis=1) + shift
    radius = np.full((len(modes), 2), _LESION_RADIUS)
    return image + lesion[:, None, None] * contrast[:, None, None] * _ellipses(middle, radius, image_size)


def _ellipses(middle: np.ndarray, axes: np.ndarray, image_size: int) -> np.ndarray:
    """Return the share of each pixel in an ellipse, 0 to 1 ``(N, H, W)``; ``middle`` and ``axes`` (N, 2) are x, y."""
    line = ((np.arange(image_size) + 0.5) / image_size - 0.5) * 16
    x = (line[None, None, :] - middle[:, 0, None, None]) / axes[:, 0, None, None]
    y = (line[None, :, None] - middle[:, 1, None, None]) / axes[:, 1, None, None]
    radius = np.hypot(x, y)
    # The distance from the border to first order, in pixels: (r - 1) / |gradient of r|.
    slope = np.hypot(x / axes[:, 0, None, None], y / axes[:, 1, None, None]) / np.maximum(radius, 1e-9)
    distance = (radius - 1) / np.maximum(slope, 1e-9) * (image_size / 16)
    return np.clip(0.5 - distance, 0, 1)
