"""Copies of training images that are changed a little: the positive control of an audit, which has to find them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from medsynth.contracts import counter_seed
from medsynth.metrics.image_set import ImageSet

CHANGES = ("none", "noise", "flip", "shift", "contrast", "rotation", "all")
NOISE = 0.1  # standard deviation, of images in [-1, 1]
SHIFT = 1 / 16  # of the side, the largest
CONTRAST, BRIGHTNESS = 0.3, 0.15  # the largest relative change of contrast, and change of the mean
DEGREES = 4.0  # the largest angle


def planted(training: ImageSet, count: int, *, change: str = "all", seed: int = 0) -> ImageSet:
    """Return ``count`` copies of random training images, each changed at random.

    Args:
        training: what is copied, each image once before any is copied twice.
        count: how many.
        change: one of ``CHANGES``; "all" are all together: the flip, left and right, of every second copy on average.
        seed: of the choice and the changes.
    """
    assert change in CHANGES
    random = np.random.default_rng(counter_seed("planted", seed))
    rounds = [random.permutation(training.count) for _ in range(-(-count // training.count))]
    rows = np.concatenate(rounds)[:count]

    def read(numbers: Sequence[int]) -> Tensor:
        images = training.read(rows[list(numbers)].tolist())
        return torch.stack([_changed(image, change, seed, n) for image, n in zip(images, numbers, strict=True)])

    groups = None if training.groups is None else training.groups[rows]
    return dataclasses.replace(
        training,
        name=f"planted copies ({change}, {seed})",
        count=count,
        read=read,
        labels=None,
        key=None,
        groups=groups,
    )


def _changed(image: Tensor, change: str, seed: int, number: int) -> Tensor:
    random = np.random.default_rng(counter_seed("change", seed, int(number)))
    side = image.shape[-1]
    flip, angle, contrast, brightness = random.random(), *random.uniform(-1, 1, 3)
    most = max(round(SHIFT * side), 1)
    down, right = (int(step) for step in random.integers(-most, most + 1, 2))
    if change == "flip" or (change == "all" and flip < 0.5):
        image = image.flip(-1)
    if change in ("rotation", "all"):
        image = rotated(image[None], DEGREES * angle)[0]
    if change in ("shift", "all"):
        moved = pad(image[None], (most, most, most, most), mode="replicate")[0]
        image = moved[:, most + down : most + down + side, most + right : most + right + side]
    if change in ("contrast", "all"):
        image = image * (1 + CONTRAST * contrast) + BRIGHTNESS * brightness
    if change in ("noise", "all"):
        image = image + NOISE * torch.as_tensor(random.standard_normal(image.shape), dtype=image.dtype)
    return image.clamp(-1, 1)


def rotated(images: Tensor, degrees: float) -> Tensor:
    """Return images (N, C, H, W) rotated around their center; the border is continued outwards."""
    if degrees == 0:
        return images
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]], dtype=images.dtype, device=images.device)
    grid = affine_grid(turn.expand(len(images), -1, -1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
