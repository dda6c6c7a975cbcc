"""Parts that chest and abdomen share: the layers of the trunk's wall, a vertebra and ribs."""

from __future__ import annotations

import math

import numpy as np

from medsynth.data.phantom.canvas import Array, Canvas, Shape, ripple

FAT, MUSCLE = -100.0, 55.0


def paint_wall(canvas: Canvas, rng: np.random.Generator, trunk: Shape, fat: float, wall: float) -> Array:
    """Paint skin, fat and muscle, ``fat`` and ``wall`` mm thick; return the depth under the muscle."""
    depth = np.full_like(canvas.hu, -99.0)
    region, inside = canvas.depth(trunk)
    depth[region] = inside
    uneven = canvas.field(rng, 60.0)
    muscle = depth - fat * (1 + 0.12 * uneven)
    cavity = muscle - wall * (1 + 0.15 * canvas.field(rng, 50.0))
    canvas.blend(canvas.cover(depth), 40.0)
    canvas.blend(canvas.cover(depth - 2.5), FAT + 6 * canvas.grain)
    canvas.blend(canvas.cover(muscle), MUSCLE + 4 * canvas.grain)
    # Streaks of fat between the layers of muscle.
    streak = np.minimum(canvas.cover(muscle - 0.55 * wall), 1 - canvas.cover(muscle - 0.68 * wall))
    canvas.blend(0.6 * streak, FAT)
    return cavity


def paint_vertebra(canvas: Canvas, rng: np.random.Generator, y: float, size: float) -> None:
    """Paint a vertebra with its body centered at (0, y): pedicles, canal, processes, and the muscles behind."""
    soft = 2.5
    spongy, compact = rng.uniform(150, 230), rng.uniform(480, 680)
    for side in (-1, 1):
        erector = Shape(side * 31 * size, y + 36 * size, 24 * size, 17 * size, side * 0.15, 0, ripple(rng, 0.05))
        canvas.paint(erector, MUSCLE + 5, soft=soft)
        canvas.paint(Shape(side * 26 * size, y + 40 * size, 1.3, 9 * size, side * 0.6), -60.0, soft=2.0)
        process = Shape(side * 25 * size, y + 21 * size, 15 * size, 3.5 * size, side * rng.normal(0.15, 0.08))
        canvas.paint(process, compact)
        canvas.paint(Shape(side * 12 * size, y + 22 * size, 4 * size, 12 * size, side * 0.45), compact)
    canvas.paint(Shape(0, y + 40 * size, 3.2 * size, 13 * size), compact)
    # The body is wider than long and concave behind, at the canal.
    body = Shape(0, y, 20 * size, 15.5 * size, ripple=(-0.03 + 0j, -0.03j))
    canvas.paint(body, compact)
    canvas.paint(body.grown(-2.0), spongy + 25 * canvas.grain, soft=1.5)
    canvas.paint(Shape(0, y + 19 * size, 9.5 * size, 7.5 * size), -20.0)
    canvas.paint(Shape(0, y + 19 * size, 6.5 * size, 5.5 * size), 35.0, soft=1.5)


def paint_ribs(canvas: Canvas, rng: np.random.Generator, trunk: Shape, depth: float, angles: list[float]) -> None:
    """Paint obliquely cut ribs, ``depth`` mm under the skin, at these ``angles`` (radians) around the trunk."""
    long, wide = trunk.a - depth, trunk.b - depth
    for angle in angles:
        x, y = long * math.cos(angle), wide * math.sin(angle)
        tangent = math.atan2(wide * math.cos(angle), -long * math.sin(angle))
        rib = Shape(trunk.x + x, trunk.y + y, rng.uniform(9, 17), rng.uniform(3.6, 4.8), tangent + rng.normal(0, 0.06))
        canvas.paint(rib, rng.uniform(550, 750))
        canvas.paint(rib.grown(-1.6), rng.uniform(200, 300), soft=1.5)
