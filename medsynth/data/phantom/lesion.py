"""Lesions: round, irregular, apart from each other, inside the organs that an anatomy names."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from medsynth.data.phantom.canvas import Array, Canvas, Shape, ripple


@dataclasses.dataclass(frozen=True)
class LesionType:
    """The appearance of an anatomy's lesions.

    Attributes:
        radius: range in mm.
        hu: range of the core's intensity in HU.
        rim: width in mm of a zone around the core (edema); 0: none.
        rim_hu: intensity of the rim in HU.
        ripple: irregularity of the outline, relative to the radius.
    """

    radius: tuple[float, float]
    hu: tuple[float, float]
    rim: float = 0.0
    rim_hu: float = 0.0
    ripple: float = 0.12


@dataclasses.dataclass(frozen=True)
class LesionSite:
    """The places where lesions may be.

    Attributes:
        organs: each lesion has its center in one of them.
        bounds: an upright ellipse that contains all lesions completely.
        cover: the pixels in which lesions are painted.
        avoid: circles (x, y, radius in mm) that lesions must not touch.
    """

    organs: tuple[Shape, ...]
    bounds: Shape
    cover: Array
    avoid: tuple[tuple[float, float, float], ...] = ()


def place(site: LesionSite, kind: LesionType, count: int, rng: np.random.Generator) -> list[Shape]:
    """Return ``count`` shapes in the site that do not touch each other; they are made smaller if they do not fit."""
    taken = list(site.avoid)
    shapes: list[Shape] = []
    radius, tries = rng.uniform(*kind.radius), 0
    while len(shapes) < count:
        x, y = _center(site, rng)
        tries += 1
        if not _fits(x, y, 1.2 * radius + kind.rim, site.bounds, taken):
            radius *= 0.97 if tries % 10 == 0 else 1.0
            continue
        taken.append((x, y, 1.2 * radius + kind.rim))
        long = rng.uniform(1.0, 1.2)
        outline = ripple(rng, kind.ripple)
        shapes.append(Shape(x, y, radius * long, radius / long, rng.uniform(0, math.pi), 0.0, outline))
        radius = rng.uniform(*kind.radius)
    return shapes


def _center(site: LesionSite, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a random point, uniform in a random organ."""
    organ = site.organs[int(rng.integers(len(site.organs)))]
    angle, far = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform())
    u, v = far * math.cos(angle) * organ.a, far * math.sin(angle) * organ.b
    cos, sin = math.cos(organ.angle), math.sin(organ.angle)
    return organ.x + cos * u - sin * v, organ.y + sin * u + cos * v


def _fits(x: float, y: float, reach: float, bounds: Shape, taken: list[tuple[float, float, float]]) -> bool:
    """Return whether a circle of radius ``reach`` is inside the bounds and touches none of the circles."""
    far = math.hypot((x - bounds.x) / (bounds.a - reach), (y - bounds.y) / (bounds.b - reach))
    return far < 1 and all(math.hypot(x - p, y - q) > reach + r for p, q, r in taken)


def paint(canvas: Canvas, site: LesionSite, kind: LesionType, shapes: list[Shape], rng: np.random.Generator) -> None:
    """Paint the lesions into the canvas: rims first, cores with a little texture on top."""
    for shape in shapes:
        if kind.rim:
            canvas.paint(shape.grown(kind.rim * rng.uniform(0.6, 1.2)), kind.rim_hu, soft=4.0, within=site.cover)
    for shape in shapes:
        core = rng.uniform(*kind.hu)
        canvas.paint(shape, core, soft=2.0, within=site.cover)
        u, v = rng.uniform(-0.3, 0.3, size=2)
        spot = shape._replace(x=shape.x + u * shape.a, y=shape.y + v * shape.b, a=0.5 * shape.a, b=0.5 * shape.b)
        canvas.paint(spot, core + rng.uniform(-6, 6), soft=4.0, within=site.cover)
