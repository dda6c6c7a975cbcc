"""Affine maps of images: one for each image, however many changes it is made of, and one resampling.

A map is a matrix (N, 3, 3) that takes a position in the new image to the one in the old image that it shows: columns
and rows in pixels, from the image's center, and 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Analysis low-pass of the wavelets of Le Gall and Tabatabai (1988, "5/3"); their synthesis low-pass is linear
# interpolation to twice the density.
_LOW_PASS = (-0.125, 0.25, 0.75, 0.25, -0.125)

Move = tuple[float, Tensor]  # a probability and maps, which are drawn for all images whether they are applied or not


def move(images: Tensor, moves: Iterable[Move]) -> Tensor:
    """Images (N, C, H, W) after all changes that fall to each; an image to which none falls stays bit for bit."""
    maps = torch.eye(3, device=images.device, dtype=images.dtype).expand(len(images), 3, 3)
    moved = torch.zeros(len(images), 1, 1, device=images.device, dtype=torch.bool)
    for probability, drawn in moves:
        applied = torch.rand(len(images), 1, 1, device=images.device) < probability
        maps = torch.where(applied, maps @ drawn, maps)
        moved = moved | applied
    return torch.where(moved[..., None], resample(images, maps), images)


def blit_moves(images: Tensor, probability: float, *, flip: bool, rotate90: bool, translation: float) -> Iterator[Move]:
    """Moves from pixels to pixels: mirroring, quarter turns, shifts. A map leads back, which is as likely as forth.

    Mirroring one way or the other and turns by 0 to 3 quarters are equally frequent; those that change nothing are left
    out.
    """
    if flip:
        one = images.new_ones(len(images))
        yield probability / 2, scaling(-one, one)
    if rotate90:
        yield probability * 3 / 4, rotation(_whole(1, 3, images) * (math.pi / 2))
    columns, rows = (int(size * translation) for size in (images.shape[3], images.shape[2]))
    if columns or rows:
        yield probability, shift(_whole(-columns, columns, images), _whole(-rows, rows, images))


def general_moves(
    images: Tensor, probability: float, *, scale: float, angle: float, stretch: float, deviation: float
) -> Iterator[Move]:
    """Moves to anywhere: scale, rotation, stretch, rotation, shift. ``angle`` in radians, the largest.

    Either rotation has probability 1 - sqrt(1 - p), so that none comes with probability 1 - p.
    """
    either = 1 - math.sqrt(1 - probability)
    if scale:
        factor = (normal(images) * scale).exp2()
        yield probability, scaling(factor, factor)
    if angle:
        yield either, rotation(_between(angle, images))
    if stretch:
        factor = (normal(images) * stretch).exp2()
        yield probability, scaling(factor, 1 / factor)
    if angle:
        yield either, rotation(_between(angle, images))
    if deviation:
        columns, rows = (normal(images) * (deviation * size) for size in (images.shape[3], images.shape[2]))
        yield probability, shift(columns, rows)


def resample(images: Tensor, maps: Tensor) -> Tensor:
    """Images (N, C, H, W) as their maps show them; what lies outside is the image mirrored at its border.

    They are interpolated linearly at twice the density of the pixels, against aliasing where the map shrinks them, and
    brought back by the filter that makes this exact for whole pixels: a shift by them, a mirror image or a quarter turn
    blurs nothing, and half a pixel in between comes out as by cubic interpolation. First derivatives alone.
    """
    count, channels, height, width = images.shape
    # The filter reaches one pixel beyond the image. F.affine_grid would take longer than all the rest together.
    rows, columns = (torch.arange(-1, size + 0.5, 0.5).to(maps) - (size - 1) / 2 for size in (height, width))
    maps = maps[:, :2] / maps.new_tensor([[width / 2], [height / 2]])  # to positions in [-1, 1]
    x, y, center = (column[:, :, None, None] for column in maps.unbind(-1))  # (N, 2, 1, 1)
    grid = x * columns + (y * rows[:, None] + center)  # (N, 2, 2 * H + 3, 2 * W + 3)
    options = {"mode": "bilinear", "padding_mode": "reflection", "align_corners": False}
    dense = F.grid_sample(images, grid.permute(0, 2, 3, 1), **options)
    low_pass = images.new_tensor(_LOW_PASS)
    # The channels as images of their own: one kernel serves them all.
    dense = dense.reshape(count * channels, 1, *dense.shape[2:])
    return F.conv2d(dense, torch.outer(low_pass, low_pass)[None, None], stride=2).view(images.shape)


def scaling(columns: Tensor, rows: Tensor) -> Tensor:
    """Maps that stretch positions by factors (N,)."""
    zero, one = torch.zeros_like(columns), torch.ones_like(columns)
    return _matrices([[columns, zero, zero], [zero, rows, zero], [zero, zero, one]])


def rotation(angle: Tensor) -> Tensor:
    """Maps that turn positions by angles (N,) in radians, from the columns' direction towards the rows'."""
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    return _matrices([[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, torch.ones_like(angle)]])


def shift(columns: Tensor, rows: Tensor) -> Tensor:
    """Maps that shift positions by numbers of pixels (N,)."""
    zero, one = torch.zeros_like(columns), torch.ones_like(columns)
    return _matrices([[one, zero, columns], [zero, one, rows], [zero, zero, one]])


def normal(images: Tensor) -> Tensor:
    """(N,) standard normal numbers, one for each image."""
    return torch.randn(len(images), device=images.device, dtype=images.dtype)


def _between(largest: float, images: Tensor) -> Tensor:
    return (torch.rand(len(images), device=images.device, dtype=images.dtype) * 2 - 1) * largest


def _whole(smallest: int, largest: int, images: Tensor) -> Tensor:
    return torch.randint(smallest, largest + 1, (len(images),), device=images.device).to(images.dtype)


def _matrices(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
