"""A pixel grid in millimeters that organs are painted on, in Hounsfield units (HU).

The frame is that of a radiological axial slice: x grows to the image's right (the patient's left), y grows downwards
(posterior), the origin is the center of the patient. The frame includes the pose of the patient and a smooth random
warp, so that shapes that are simple in the frame become irregular in the image and still fit each other.

Everything is a function of position in millimeters: the same random numbers give the same image at every size. Edges
are ramps one pixel wide (the fraction of the pixel that the shape covers, the partial volume effect).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Region = tuple[slice, slice]
Position = TypeVar("Position", float, Array)

AIR = -1000.0
_FALLOFF = 1 / np.repeat(np.arange(2, 6), 2)


class Shape(NamedTuple):
    """An ellipse with semi-axes ``a`` (along x) and ``b`` (along y) in mm, turned by ``angle`` (radians).

    ``bend`` curves it (the ends of the b axis move by ``bend * a``); ``ripple`` are the complex coefficients of the
    harmonics 2, 3, ... of the outline's radius, relative to the radius.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0
    bend: float = 0.0
    ripple: tuple[complex, ...] = ()

    def grown(self, margin: float) -> Shape:
        """Return the same shape, larger by ``margin`` mm on every side (smaller if negative)."""
        return self._replace(a=max(self.a + margin, 0.3), b=max(self.b + margin, 0.3))


def ripple(rng: np.random.Generator, strength: float) -> tuple[complex, ...]:
    """Draw random harmonics 2 to 5 of an outline, falling as 1/order; ``strength`` is relative to the radius."""
    return tuple((rng.standard_normal(8) * (strength * _FALLOFF)).view(np.complex128).tolist())


@functools.lru_cache(maxsize=64)
def _cosines(image_size: int, count: int) -> Array:
    """Return the first ``count`` cosines at the pixel centers, ``(image_size, count)``."""
    position = (np.arange(image_size) + 0.5) / image_size
    return np.cos(np.pi * position[:, None] * np.arange(count)).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _spectrum(count: int) -> Array:
    """Return amplitudes ``(count, count)`` of a field with a Gaussian spectrum and a standard deviation of about 1."""
    order = np.arange(count)
    amplitude = np.exp(-2 * (order[:, None] ** 2 + order**2) / count**2)
    amplitude[0, 0] = 0
    return (2 * amplitude / np.sqrt((amplitude**2).sum())).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _blur(image_size: int, sigma: float) -> Array:
    """Return the matrix ``(image_size, image_size)`` that blurs a column with a Gaussian of ``sigma`` pixels."""
    position = np.arange(image_size)
    weights = np.exp(-((position[:, None] - position) ** 2) / (2 * sigma**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class Canvas:
    """One square slice to paint on.

    Args:
        image_size: height and width in pixels.
        field_of_view: side of the slice in mm.
        warp: standard deviation of the random displacement in mm.
        rng: of the pose, the warp and the texture.

    Attributes:
        hu: ``(image_size, image_size)``, air at first.
        x: positions of the pixels in the patient's frame in mm, like ``y`` and ``point`` (x + iy).
        grain: a fine random field of mean 0 and standard deviation 1, the texture of tissue.
    """

    def __init__(self, *, image_size: int, field_of_view: float, warp: float, rng: np.random.Generator) -> None:
        self.image_size = image_size
        self.field_of_view = field_of_view
        self.pixel = field_of_view / image_size
        self.hu = np.full((image_size, image_size), AIR, dtype=np.float32)
        angle, self._zoom = rng.normal(0, 0.05), rng.normal(1, 0.025)
        self._shift = rng.normal(0, 0.01 * field_of_view), rng.normal(0, 0.01 * field_of_view)
        self._angle, self._cos, self._sin = angle, math.cos(angle), math.sin(angle)
        self._axis = ((np.arange(image_size) + 0.5) * self.pixel - field_of_view / 2).astype(np.float32)
        across, down = warp * self.field(rng, 100.0), warp * self.field(rng, 100.0)
        self._reach = float(max(np.abs(across).max(), np.abs(down).max()))
        column = (self._axis - self._shift[0]) / self._zoom
        row = ((self._axis - self._shift[1]) / self._zoom)[:, None]
        self.x = across + self._cos * column + self._sin * row
        self.y = down + self._cos * row - self._sin * column
        self.point = self.x + 1j * self.y
        self.grain = self.field(rng, 7.0)

    def field(self, rng: np.random.Generator, length: float) -> Array:
        """Draw a smooth Gaussian random field of mean 0 and standard deviation 1 with details of about ``length`` mm.

        It is a cosine series, so that a smaller image shows the same field without the finest waves.
        """
        count = max(3, round(2 * self.field_of_view / length))
        coefficients = rng.standard_normal((count, count), dtype=np.float32) * _spectrum(count)
        kept = min(count, self.image_size)
        basis = _cosines(self.image_size, kept)
        return basis @ coefficients[:kept, :kept] @ basis.T

    def depth(self, shape: Shape) -> tuple[Region, Array]:
        """Return the region of pixels around the shape and their depth under its outline in mm.

        The distance is a first-order one: the implicit function of the outline over the length of its gradient. Points
        are complex numbers x + iy, which halves the NumPy calls of this function, the slowest of the rendering.
        """
        region = self._region(shape)
        turn = complex(math.cos(shape.angle), -math.sin(shape.angle))
        mean, half = (1 / shape.a + 1 / shape.b) / 2, (1 / shape.a - 1 / shape.b) / 2
        point = self.point[region] - complex(shape.x, shape.y)
        # The linear map from the ellipse to the unit circle.
        point = point * (mean * turn) + point.conj() * (half * turn.conjugate())
        if shape.bend:
            point += shape.bend * np.square(point.imag)
        slope = np.abs(point * mean + point.conj() * half)
        radius = np.abs(point)
        radius += 1e-4
        slope += 1e-5
        edge: float | Array = 1.0
        if shape.ripple:
            point /= radius
            series = point * shape.ripple[-1]
            for coefficient in shape.ripple[-2::-1]:
                series += coefficient
                series *= point
            edge = 1 + (series * point).real
        return region, (edge - radius) * radius / slope

    def cover(self, depth: Array, soft: float = 0.0) -> Array:
        """Return the fraction of each pixel inside the outline; the edge is ``soft`` mm wide, one pixel at least."""
        return np.minimum(np.maximum(0.5 + depth * (1 / max(self.pixel, soft)), 0), 1)

    def covered(self, shape: Shape) -> Array:
        """Return the fraction of each pixel ``(image_size, image_size)`` inside a shape."""
        cover = np.zeros(self.hu.shape, dtype=np.float32)
        region, depth = self.depth(shape)
        cover[region] = self.cover(depth)
        return cover

    def paint(self, shape: Shape, hu: float | Array, *, soft: float = 0.0, within: Array | None = None) -> None:
        """Fill the shape with ``hu`` (a number, or one for each pixel), if given only ``within`` another cover."""
        region, depth = self.depth(shape)
        alpha = self.cover(depth, soft)
        width = max(self.pixel, soft)
        for half in (shape.a, shape.b):
            if half < width / 2:
                # The two ramps of a thin shape overlap: their integral is (width / 2 + half)^2 / width, not 2 half.
                alpha *= 2 * half * width / (width / 2 + half) ** 2
        if within is not None:
            alpha *= within[region]
        self.blend(alpha, hu[region] if isinstance(hu, np.ndarray) else hu, region)

    def blend(self, alpha: Array, hu: float | Array, region: Region = (slice(None), slice(None))) -> None:
        """Mix ``hu`` into the region with the weights ``alpha`` in [0, 1]."""
        target = self.hu[region]
        target += alpha * (hu - target)

    def blobs(self, x: Array, y: Array, radius: Array) -> Array:
        """Return the cover ``(image_size, image_size)`` of many small round blobs ``(n,)``, such as vessels in a row.

        A round Gaussian is the product of two one-dimensional ones, so that n blobs cost one matrix product. A blur of
        1.2 mm connects neighboring blobs.
        """
        column, row = self._to_image(x.astype(np.float32), y.astype(np.float32))
        radius = radius.astype(np.float32)
        width = np.sqrt(np.square(0.6 * radius) + (1.2**2 + (0.4 * self.pixel) ** 2))
        height = np.square(0.6 * radius / width)
        scale = -0.5 / np.square(width[:, None])
        across = np.exp(((self._axis - column[:, None]) ** 2 * scale).astype(np.float32))
        down = np.exp(((self._axis - row[:, None]) ** 2 * scale).astype(np.float32)) * height[:, None].astype(
            np.float32
        )
        return np.minimum(1.5 * (down.T @ across), 1)

    def position(self, point: complex) -> tuple[float, float]:
        """Return column and row, in pixels, of a point x + iy of the patient's frame; the warp is linear in a pixel."""
        row, column = np.unravel_index(int(np.abs(self.point - point).argmin()), self.point.shape)
        row, column = (min(max(int(place), 1), self.image_size - 2) for place in (row, column))
        across = complex(self.point[row, column + 1] - self.point[row, column - 1]) / 2
        down = complex(self.point[row + 1, column] - self.point[row - 1, column]) / 2
        rest = point - complex(self.point[row, column])
        area = across.real * down.imag - across.imag * down.real
        right = (rest.real * down.imag - rest.imag * down.real) / area
        below = (across.real * rest.imag - across.imag * rest.real) / area
        return column + right, row + below

    def scan(self, *, blur: float, noise: float, rng: np.random.Generator) -> Array:
        """Return the slice as scanned: blurred by a Gaussian of ``blur`` mm, with white noise of ``noise`` HU."""
        image = self.blurred(self.hu, blur)
        return image + noise * rng.standard_normal(self.hu.shape, dtype=np.float32)

    def blurred(self, values: Array, blur: float) -> Array:
        """Return values (H, W) blurred by a Gaussian of ``blur`` mm."""
        matrix = _blur(self.image_size, math.hypot(0.4, blur / self.pixel))
        return matrix @ values @ matrix.T

    def _to_image(self, x: Position, y: Position) -> tuple[Position, Position]:
        """Map the patient's frame to the image's, both in mm, without the warp."""
        column = self._zoom * (self._cos * x - self._sin * y) + self._shift[0]
        row = self._zoom * (self._sin * x + self._cos * y) + self._shift[1]
        return column, row

    def _region(self, shape: Shape) -> Region:
        """Return the rows and columns that the shape can reach."""
        column, row = self._to_image(shape.x, shape.y)
        swell = 1.02 + sum(map(abs, shape.ripple))
        a, b = shape.a * swell * (1 + abs(shape.bend) * swell), shape.b * swell
        cos, sin = math.cos(shape.angle + self._angle), math.sin(shape.angle + self._angle)
        margin = 1.1 * self._reach + 1.5 * self.pixel
        wide, high = (
            self._zoom * math.hypot(a * cos, b * sin) + margin,
            self._zoom * math.hypot(a * sin, b * cos) + margin,
        )
        return self._pixels(row, high), self._pixels(column, wide)

    def _pixels(self, middle: float, reach: float) -> slice:
        first = int((middle - reach) / self.pixel + self.image_size / 2)
        last = int((middle + reach) / self.pixel + self.image_size / 2) + 1
        return slice(max(first, 0), max(last, 0))
