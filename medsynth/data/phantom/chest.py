"""An axial slice of the chest with contrast agent, from the great vessels down to the middle of the heart.

Typical HU (W. A. Kalender, Computed Tomography, 3rd ed., 2011, and radiology textbooks): air -1000, lung -900 to -700
(denser on the side the patient lies on), fat -100, muscle 50 to 65, myocardium 90 to 120 and blood 150 to 220 with
contrast agent, spongy bone 150 to 250, compact bone 500 and more, solid nodules of the lung 20 to 60.
"""

from __future__ import annotations

import math

import numpy as np

from medsynth.data.phantom.anatomy import Anatomy
from medsynth.data.phantom.canvas import AIR, Array, Canvas, Shape, ripple
from medsynth.data.phantom.lesion import LesionSite, LesionType
from medsynth.data.phantom.trunk import FAT, MUSCLE, paint_ribs, paint_vertebra, paint_wall

NODULE = LesionType(radius=(9.5, 15.0), hu=(20.0, 60.0), rim=2.5, rim_hu=-550.0, ripple=0.16)

LUNG = -860.0


def paint(canvas: Canvas, rng: np.random.Generator) -> LesionSite:
    """Paint one healthy chest, and return the site of lesions: the outer parts of both lungs."""
    level = rng.uniform()
    wide, long, fat = rng.normal(160, 6), rng.normal(112, 5), float(rng.uniform(6, 16))
    trunk = Shape(0, 0, wide, long, ripple=(complex(0.0), complex(0, rng.normal(-0.01, 0.006)), complex(-0.02, 0)))
    wall = rng.uniform(17, 22)
    cavity = paint_wall(canvas, rng, trunk, fat, wall)
    inside = canvas.cover(cavity)
    canvas.blend(inside, FAT + 25)
    angles = [side * (step + rng.normal(0, 0.04)) for side in (-1, 1) for step in (0.3, 0.72, 1.1)]
    angles += [math.pi + side * (step + rng.normal(0, 0.04)) for side in (-1, 1) for step in (0.3, 0.72, 1.1)]
    paint_ribs(canvas, rng, trunk, fat + wall - 5, angles)
    _paint_shoulder_blades(canvas, rng, long - fat, level)
    back = long - fat - 60
    lungs, lobes = _paint_lungs(canvas, rng, cavity, wide - fat - wall, long - fat - wall)
    lungs = _paint_heart(canvas, rng, back, level, lungs)
    paint_vertebra(canvas, rng, back, rng.normal(0.95, 0.04))
    canvas.paint(Shape(0, fat + 13 - long, 17, 5.5), 550.0)
    canvas.paint(Shape(0, fat + 13 - long, 15, 3.8), 200.0, soft=1.5)
    bounds = Shape(0, 0, wide - fat - wall - 2, long - fat - wall - 2)
    return LesionSite(lobes, bounds, lungs, avoid=((22.0, -22.0, 42.0), (-25.0, 0.0, 18.0)))


def _paint_shoulder_blades(canvas: Canvas, rng: np.random.Generator, back: float, level: float) -> None:
    """Paint the thin shoulder blades among the muscles behind the ribs; only their tips at lower levels."""
    long = 30 - 20 * level
    for side in (-1, 1):
        blade = Shape(side * 98, 0.62 * back, long, 2.6, side * rng.normal(-0.62, 0.08))
        canvas.paint(blade.grown(7.0), MUSCLE, soft=3.0)
        canvas.paint(blade, 450.0)


def _paint_lungs(
    canvas: Canvas, rng: np.random.Generator, cavity: Array, wide: float, long: float
) -> tuple[Array, tuple[Shape, ...]]:
    """Paint both lungs with their vessels; return their cover and the shapes where lesions may be placed."""
    cover = np.zeros_like(cavity)
    x, lobes = 0.53 * wide, []
    for side in (-1, 1):
        lung = Shape(side * x, 2, 0.5 * wide, 1.02 * long, side * 0.08, side * -0.12, ripple(rng, 0.03))
        region, depth = canvas.depth(lung)
        cover[region] = np.maximum(cover[region], canvas.cover(depth))
        lobes.append(Shape(side * 1.2 * x, 4, 0.3 * wide, 0.7 * long))
    cover *= canvas.cover(cavity - 3.0)
    tissue = rng.normal(LUNG, 15) + 0.35 * canvas.y + 16 * canvas.grain + 25 * canvas.field(rng, 40.0)
    canvas.blend(cover, tissue)
    canvas.blend(cover * _vessels(canvas, rng), 40.0)
    return cover, tuple(lobes)


def _vessels(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Return the cover of both lungs' vessels: thinning branches that wind outwards from the hilum, and dots."""
    branches, steps, dots = 10, 24, 60
    count = 2 * branches
    # The second half of the branches starts farther out: they are the branches of branches.
    side = np.repeat((-1.0, 1.0, -1.0, 1.0), branches // 2)[:, None]
    start = np.repeat((26.0, 52.0), branches)[:, None]
    heading = np.tile(np.linspace(-1.9, 1.9, branches // 2), 4)[:, None] + rng.normal(0, 0.3, size=(count, 1))
    turns = heading + np.cumsum(rng.normal(0, 0.13, size=(count, steps)), axis=1)
    pace = rng.uniform(1.8, 3.2, size=(count, 1))
    x = side * (26 + (start - 26) * np.cos(heading) + np.cumsum(pace * np.cos(turns), axis=1))
    y = 4 + (start - 26) * np.sin(heading) + np.cumsum(pace * np.sin(turns), axis=1)
    radius = rng.uniform(2.4, 4.4, size=(count, 1)) * (26 / start) ** 0.5 * np.linspace(1, 0.4, steps)
    spots = rng.uniform((-125, -75), (125, 75), size=(dots, 2))
    x = np.concatenate([x.ravel(), spots[:, 0]])
    y = np.concatenate([y.ravel(), spots[:, 1]])
    return canvas.blobs(x, y, np.concatenate([radius.ravel(), rng.uniform(1.2, 2.4, size=dots)]))


def _paint_heart(canvas: Canvas, rng: np.random.Generator, back: float, level: float, lungs: Array) -> Array:
    """Paint heart or great vessels, descending aorta, esophagus and airways; return the rest of the lungs' cover."""
    blood = rng.uniform(150, 210)
    shapes: list[tuple[Shape, float]] = []
    if level > 0.45:
        size = rng.normal(1, 0.06) * (0.8 + 0.3 * level)
        heart = Shape(18, -26, 58 * size, 43 * size, 0.5, 0, ripple(rng, 0.05))
        shapes += [(heart.grown(4.0), FAT), (heart, 105.0)]
        shapes.append((Shape(38 * size, -18, 27 * size, 17 * size, 0.75, 0, ripple(rng, 0.06)), blood))
        shapes.append((Shape(12 * size, -46, 31 * size, 14 * size, 0.45, 0, ripple(rng, 0.06)), blood - 15))
        shapes.append((Shape(-22 * size, -24, 17 * size, 21 * size, 0.2, 0, ripple(rng, 0.06)), blood - 15))
        shapes.append((Shape(4 * size, 6, 27 * size, 12 * size, 0.1, 0, ripple(rng, 0.06)), blood))
    else:
        shapes.append((Shape(2, -20, 40, 45, 0, 0, ripple(rng, 0.06)), FAT + 20))
        shapes.append((Shape(-10, -32, rng.uniform(14, 17), rng.uniform(14, 17)), blood + 10))
        shapes.append((Shape(15, -26, 15, 18, 0.6), blood))
        shapes.append((Shape(-30, -22, 8.5, 10), blood + 20))
        shapes.append((Shape(4, -8, 30, 8, -0.12, 0, ripple(rng, 0.05)), blood))
    shapes.append((Shape(0, back - 22, 26, 17), FAT + 40))
    shapes.append((Shape(24, back - 10, rng.normal(12, 1), rng.normal(12, 1)), blood))
    shapes.append((Shape(6, back - 24, 8, 5.5), 45.0))
    for shape, hu in shapes:
        region, depth = canvas.depth(shape)
        cover = canvas.cover(depth, 1.5)
        canvas.blend(cover, float(hu), region)
        lungs[region] *= 1 - cover
    for side in (-1, 1):
        bronchus = Shape(side * (12 + 10 * level), back - 34 + 6 * level, 6.5, 6.0)
        canvas.paint(bronchus.grown(1.8), 20.0)
        canvas.paint(bronchus, AIR)
    return lungs


CHEST = Anatomy(field_of_view=370.0, warp=2.7, window_center=-250.0, window_width=1400.0, lesion=NODULE, paint=paint)
