"""Lesions: round, irregular, apart from each other, inside the organ that an anatomy names."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from medsynth.data.phantom.canvas import Array, Canvas, Shape, ripple


@dataclasses.dataclass(frozen=True)
class Kind:
    """How an anatomy's lesions look: ranges of the radius (mm) and of the core's intensity (HU), and the rim.

    ``rim`` is the width in mm of a zone around the core (edema), ``rim_hu`` its intensity; 0 mm is none.
    """

    radius: tuple[float, float]
    hu: tuple[float, float]
    rim: float = 0.0
    rim_hu: float = 0.0
    ripple: float = 0.12


@dataclasses.dataclass(frozen=True)
class Site:
    """Where lesions may grow: with their middle in one of ``organs`` and wholly in ``room``, an upright ellipse.

    ``avoid`` are circles (x, y, radius in mm) that they keep away from; ``cover`` is where they are painted.
    """

    organs: tuple[Shape, ...]
    room: Shape
    cover: Array
    avoid: tuple[tuple[float, float, float], ...] = ()


def place(site: Site, kind: Kind, count: int, rng: np.random.Generator) -> list[Shape]:
    """``count`` shapes in the site that do not touch; where there is little room, they are made smaller."""
    taken = list(site.avoid)
    shapes: list[Shape] = []
    radius, tries = rng.uniform(*kind.radius), 0
    while len(shapes) < count:
        x, y = _middle(site, rng)
        tries += 1
        if not _fits(x, y, 1.2 * radius + kind.rim, site.room, taken):
            radius *= 0.97 if tries % 10 == 0 else 1.0
            continue
        taken.append((x, y, 1.2 * radius + kind.rim))
        long = rng.uniform(1.0, 1.2)
        outline = ripple(rng, kind.ripple)
        shapes.append(Shape(x, y, radius * long, radius / long, rng.uniform(0, math.pi), 0.0, outline))
        radius = rng.uniform(*kind.radius)
    return shapes


def _middle(site: Site, rng: np.random.Generator) -> tuple[float, float]:
    """A random point, uniform in a random one of the organs."""
    organ = site.organs[int(rng.integers(len(site.organs)))]
    angle, far = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform())
    u, v = far * math.cos(angle) * organ.a, far * math.sin(angle) * organ.b
    cos, sin = math.cos(organ.angle), math.sin(organ.angle)
    return organ.x + cos * u - sin * v, organ.y + sin * u + cos * v


def _fits(x: float, y: float, reach: float, room: Shape, taken: list[tuple[float, float, float]]) -> bool:
    """Whether a circle of radius ``reach`` lies in the room and touches none of the circles."""
    far = math.hypot((x - room.x) / (room.a - reach), (y - room.y) / (room.b - reach))
    return far < 1 and all(math.hypot(x - p, y - q) > reach + r for p, q, r in taken)


def paint(canvas: Canvas, site: Site, kind: Kind, shapes: list[Shape], rng: np.random.Generator) -> None:
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
