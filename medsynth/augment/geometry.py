"""Random affine changes of images, combined to one map for each image, so that it is resampled once.

A map is a matrix (N, 3, 3) that takes a position in the new image to the position in the old one whose value it shows.
Positions are homogeneous: column and row in pixels from the image's center, and 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_REACH = 10  # of the low-pass filter in both directions, at the double density

Move = tuple[float, Tensor]  # a probability, and maps drawn for all images; each image has its own applied or not


def move(images: Tensor, moves: Iterable[Move]) -> Tensor:
    """Apply to each of the images (N, C, H, W) its share of the moves; an image without any stays bit for bit."""
    maps = torch.eye(3, device=images.device, dtype=images.dtype).expand(len(images), 3, 3)
    moved = torch.zeros(len(images), 1, 1, device=images.device, dtype=torch.bool)
    for probability, drawn in moves:
        applied = torch.rand(len(images), 1, 1, device=images.device) < probability
        maps = torch.where(applied, maps @ drawn, maps)
        moved = moved | applied
    return torch.where(moved[..., None], resample(images, maps), images)


@dataclasses.dataclass(frozen=True)
class Blit:
    """Changes that move whole pixels: mirroring, quarter turns, shifts.

    Attributes:
        flip: mirror left and right.
        rotate90: turn by 0, 90, 180 or 270 degrees.
        translation: largest shift, as a fraction of height and width.
    """

    flip: bool
    rotate90: bool
    translation: float

    def moves(self, images: Tensor, probability: float) -> Iterator[Move]:
        """Draw the changes of images (N, C, H, W), each applied to an image with ``probability``.

        Both orientations and all four quarter turns are equally frequent; those that change nothing are left out here,
        and the probability is reduced accordingly.
        """
        if self.flip:
            one = images.new_ones(len(images))
            yield probability / 2, scaling(-one, one)
        if self.rotate90:
            yield probability * 3 / 4, rotation(_integers(1, 3, images) * (math.pi / 2))
        columns, rows = (int(size * self.translation) for size in (images.shape[3], images.shape[2]))
        if columns or rows:
            yield probability, shift(_integers(-columns, columns, images), _integers(-rows, rows, images))


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Changes that move pixels to fractional positions: scale, rotation, stretch, rotation, shift, in this order.

    Attributes:
        scale: standard deviation of the logarithm to base 2 of the factor in size.
        rotation: largest angle in radians.
        stretch: standard deviation of the logarithm to base 2 of the factor along one axis; the other has its inverse.
        shift: standard deviation of the shift, as a fraction of height and width.
    """

    scale: float
    rotation: float
    stretch: float
    shift: float

    def moves(self, images: Tensor, probability: float) -> Iterator[Move]:
        """Draw the changes of images (N, C, H, W), each applied to an image with ``probability`` p.

        Each of the two rotations has probability 1 - sqrt(1 - p), so that there is none with probability 1 - p.
        """
        either = 1 - math.sqrt(1 - probability)
        if self.scale:
            factor = (normal(images) * self.scale).exp2()
            yield probability, scaling(factor, factor)
        if self.rotation:
            yield either, rotation(_uniform(self.rotation, images))
        if self.stretch:
            factor = (normal(images) * self.stretch).exp2()
            yield probability, scaling(factor, 1 / factor)
        if self.rotation:
            yield either, rotation(_uniform(self.rotation, images))
        if self.shift:
            columns, rows = (normal(images) * (self.shift * size) for size in (images.shape[3], images.shape[2]))
            yield probability, shift(columns, rows)


def resample(images: Tensor, maps: Tensor) -> Tensor:
    """Sample images (N, C, H, W) at the positions of their maps (N, 3, 3); images are mirrored beyond their borders.

    The images are interpolated to twice the density, sampled there linearly, and filtered: against aliasing where a map
    shrinks the image, and so that a move takes little from high frequencies, which the discriminator would otherwise
    not see in most images. Over all shifts the power lost is that of the 12-tap wavelets of the paper within 0.1 dB
    (0.9 dB at 0.31 cycles per pixel, 2.5 dB at 0.41). These filters are symmetric: shifts by whole pixels, mirroring
    and quarter turns blur nothing. It can be differentiated once.

    Interpolation is that of Deslauriers and Dubuc (1989) from six samples, exact for polynomials of the fifth degree;
    the filter follows from it by lifting (Sweldens 1996), so that one undoes the other.
    """
    height, width = images.shape[2:]
    dense = _twice_as_dense(_twice_as_dense(images).mT).mT
    # The filter reaches beyond the image. F.affine_grid would take longer than all the other lines together.
    rows, columns = (
        (torch.arange(2 * size - 1 + 2 * _REACH, device=maps.device).to(maps) - _REACH) / 2 - (size - 1) / 2
        for size in (height, width)
    )
    maps = maps[:, :2] / maps.new_tensor([[width / 2], [height / 2]])  # to positions in [-1, 1]
    x, y, center = (column[:, :, None, None] for column in maps.unbind(-1))  # (N, 2, 1, 1)
    grid = x * columns + (y * rows[:, None] + center)  # (N, 2, 2 * H + 19, 2 * W + 19)
    grid = grid.permute(0, 2, 3, 1)
    # The first and last dense samples lie on the image's edges, where it is mirrored.
    moved = F.grid_sample(dense, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    moved = _half_as_dense(_half_as_dense(moved).mT).mT
    return moved.contiguous()


def _twice_as_dense(images: Tensor) -> Tensor:
    """Interpolate (..., W) to (..., 2 W + 1): the pixels, and the values halfway to their neighbors."""
    left, right = images[..., :3].flip(-1), images[..., -3:].flip(-1)
    halfway = _halfway(torch.cat([left, images, right], dim=-1))
    pairs = torch.stack([halfway[..., :-1], images], dim=-1).flatten(-2)
    return torch.cat([pairs, halfway[..., -1:]], dim=-1)


def _half_as_dense(dense: Tensor) -> Tensor:
    """Filter and take every second sample: (..., 2 W + 19) -> (..., W).

    What differs from the prediction by its neighbors is a detail; half of the details, by the same prediction, is added
    to the samples that stay.
    """
    details = dense[..., 5:-5:2] - _halfway(dense[..., ::2])
    return dense[..., _REACH:-_REACH:2] + _halfway(details) / 2


def _halfway(samples: Tensor) -> Tensor:
    """Return the values (..., n - 5) halfway between the third and fourth of each six neighbors in (..., n)."""
    count = samples.shape[-1] - 5
    near, far, farthest = (
        samples[..., 2 - side : 2 - side + count] + samples[..., 3 + side : 3 + side + count] for side in range(3)
    )
    return (150 * near - 25 * far + 3 * farthest) / 256


def scaling(columns: Tensor, rows: Tensor) -> Tensor:
    """Return maps that multiply positions by factors (N,)."""
    zero, one = torch.zeros_like(columns), torch.ones_like(columns)
    return _matrices([[columns, zero, zero], [zero, rows, zero], [zero, zero, one]])


def rotation(angle: Tensor) -> Tensor:
    """Return maps that rotate positions by angles (N,) in radians, from the columns' axis towards the rows'."""
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    return _matrices([[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, torch.ones_like(angle)]])


def shift(columns: Tensor, rows: Tensor) -> Tensor:
    """Return maps that shift positions by numbers of pixels (N,)."""
    zero, one = torch.zeros_like(columns), torch.ones_like(columns)
    return _matrices([[one, zero, columns], [zero, one, rows], [zero, zero, one]])


def normal(images: Tensor) -> Tensor:
    """Draw (N,) standard normal numbers, one for each image."""
    return torch.randn(len(images), device=images.device, dtype=images.dtype)


def _uniform(largest: float, images: Tensor) -> Tensor:
    """Draw (N,) numbers in [-largest, largest)."""
    return (torch.rand(len(images), device=images.device, dtype=images.dtype) * 2 - 1) * largest


def _integers(smallest: int, largest: int, images: Tensor) -> Tensor:
    """Draw (N,) integers from ``smallest`` to ``largest``, both included."""
    return torch.randint(smallest, largest + 1, (len(images),), device=images.device).to(images.dtype)


def _matrices(rows: list[list[Tensor]]) -> Tensor:
    """Stack a table of elements (N,) to matrices (N, rows, columns)."""
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
