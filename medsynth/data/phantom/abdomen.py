"""An axial slice of the upper abdomen in the portal venous phase (contrast agent in the veins).

Typical HU (W. A. Kalender, Computed Tomography, 3rd ed., 2011, and radiology textbooks): fat -110 to -90, muscle 50 to
65, liver 100 to 120 and spleen 110 to 130 with contrast agent, renal cortex 150 to 190, aorta 140 to 180, pancreas 80
to 110, bowel wall 60 to 90, bowel fluid 5 to 30, gas below -900, spongy bone 150 to 250, compact bone 500 and more,
metastases in the liver 20 to 50.
"""

from __future__ import annotations

import math

import numpy as np

from medsynth.data.phantom.anatomy import Anatomy
from medsynth.data.phantom.canvas import Array, Canvas, Shape, ripple
from medsynth.data.phantom.lesion import LesionSite, LesionType
from medsynth.data.phantom.trunk import FAT, MUSCLE, paint_ribs, paint_vertebra, paint_wall

METASTASIS = LesionType(radius=(11.0, 16.0), hu=(5.0, 25.0), rim=2.0, rim_hu=70.0)

GAS = -950.0


def paint(canvas: Canvas, rng: np.random.Generator) -> LesionSite:
    """Paint one healthy abdomen, and return the site of lesions: the right lobe of the liver."""
    wide, long, fat = rng.normal(158, 7), rng.normal(114, 5), float(rng.uniform(9, 24))
    trunk = Shape(0, 0, wide, long, ripple=(complex(0.0), complex(0, rng.normal(-0.015, 0.006)), complex(-0.012, 0)))
    cavity = paint_wall(canvas, rng, trunk, fat, 13.0)
    inside = canvas.cover(cavity)
    canvas.blend(inside, FAT + 9 * canvas.field(rng, 12.0))
    angles = [side + rng.normal(0, 0.08) for side in (-0.35, 0.2, 0.75, 2.4, 2.95, 3.5)]
    paint_ribs(canvas, rng, trunk, fat + 8, angles)
    back = long - fat - 62
    paint_vertebra(canvas, rng, back, rng.normal(1.1, 0.04))
    _paint_bowel(canvas, rng, inside)
    kidney = _paint_kidneys(canvas, rng, back, inside)
    _paint_vessels(canvas, rng, back)
    _paint_stomach_and_spleen(canvas, rng, inside)
    free = canvas.cover(cavity - 1.5)
    region, depth = canvas.depth(kidney.grown(3.0))
    free[region] *= 1 - canvas.cover(depth)
    cover, lobe = _paint_liver(canvas, rng, free, (wide - fat) / 140)
    inner = Shape(0, 0, wide - fat - 14, long - fat - 14)
    return LesionSite((lobe,), inner, cover, avoid=((kidney.x, kidney.y, 24.0),))


def _paint_kidneys(canvas: Canvas, rng: np.random.Generator, back: float, inside: Array) -> Shape:
    """Paint psoas muscles beside the spine, and kidneys with bright cortex, medulla and a fatty sinus.

    Returns:
        The right kidney, which the liver must not cover.
    """
    cortex = rng.uniform(150, 185)
    kidneys = []
    for side in (-1, 1):
        canvas.paint(
            Shape(side * 34, back + 6, 11, 16, side * -0.2, 0, ripple(rng, 0.06)), MUSCLE + 4 * canvas.grain, soft=2.0
        )
        size, turn = rng.normal(0.9 + 0.06 * side, 0.06), side * rng.normal(0.5, 0.12)
        x, y = side * rng.normal(66, 3), back + rng.normal(8, 3)
        kidney = Shape(x, y, 23 * size, 31 * size, turn, side * -0.12, ripple(rng, 0.04))
        kidneys.append(kidney)
        canvas.paint(kidney, cortex + 5 * canvas.grain, soft=1.5, within=inside)
        canvas.paint(kidney.grown(-6.5), cortex - 35 + 5 * canvas.grain, soft=3.0)
        sinus = Shape(x - side * 8 * size, y - 2 * size, 9 * size, 12 * size, turn, 0, ripple(rng, 0.12))
        canvas.paint(sinus, -70.0, soft=2.0)
        canvas.paint(Shape(x - side * 19 * size, y - 5 * size, 11 * size, 5 * size, side * -0.2), -80.0, soft=2.0)
        canvas.paint(Shape(x - side * 18 * size, y - 5 * size, 14 * size, 2.2 * size, side * -0.3), 130.0, soft=2.0)
    return kidneys[0]


def _paint_vessels(canvas: Canvas, rng: np.random.Generator, back: float) -> None:
    """Paint aorta, inferior vena cava, superior mesenteric artery and vein, and the pancreas in front of them."""
    blood = rng.uniform(140, 175)
    pancreas = Shape(rng.normal(14, 4), back - 42, 40, 9, rng.normal(-0.15, 0.1), 0, ripple(rng, 0.08))
    canvas.paint(pancreas, 92 + 6 * canvas.grain, soft=2.0)
    aorta = rng.normal(9.5, 0.8)
    canvas.paint(Shape(9, back - 25, aorta, aorta, ripple=ripple(rng, 0.03)), blood)
    canvas.paint(Shape(-17, back - 23, rng.uniform(10, 14), rng.uniform(7, 9), ripple=ripple(rng, 0.04)), blood - 20)
    canvas.paint(Shape(6, back - 41, 3.8, 3.8), blood)
    canvas.paint(Shape(-6, back - 42, 5.5, 5.5), blood - 10)


def _paint_stomach_and_spleen(canvas: Canvas, rng: np.random.Generator, inside: Array) -> None:
    """Paint the spleen, and the stomach with a fluid level under its gas (the patient lies on the back)."""
    spleen = Shape(rng.normal(104, 4), rng.normal(16, 6), rng.uniform(18, 25), rng.uniform(40, 52), 0.2, 0.35)
    canvas.paint(spleen._replace(ripple=ripple(rng, 0.06)), 118 + 3 * canvas.grain, soft=1.5, within=inside)
    stomach = Shape(
        rng.normal(58, 5), rng.normal(-48, 4), rng.uniform(34, 44), rng.uniform(20, 29), rng.normal(0.35, 0.15)
    )
    stomach = stomach._replace(ripple=ripple(rng, 0.09))
    lumen = stomach.grown(-4.5)
    canvas.paint(stomach, 75.0, soft=1.5, within=inside)
    canvas.paint(lumen, rng.uniform(10, 45) + 6 * canvas.grain, within=inside)
    level = canvas.cover(stomach.y + rng.uniform(-12, 6) - canvas.y)
    canvas.paint(lumen, GAS, within=inside * level)


def _paint_bowel(canvas: Canvas, rng: np.random.Generator, inside: Array) -> None:
    """Paint the mesentery with its vessels, loops of bowel with fluid or gas, and the descending colon at the left."""
    spots = rng.uniform((-45, -65), (85, 15), size=(36, 2))
    canvas.blend(canvas.blobs(spots[:, 0], spots[:, 1], rng.uniform(1.2, 2.8, size=36)) * inside, 120.0)
    content = 18 + 14 * canvas.field(rng, 12.0)
    loops = [(96.0, -22.0, 13.0)]
    # The loops are on a spiral with equal areas between them, so that they fill the cavity without a search.
    for number in range(9):
        angle, far = 2.4 * number + rng.uniform(-0.3, 0.3), math.sqrt((number + 0.5) / 9)
        loops.append((30 + 62 * far * math.cos(angle), -34 + 40 * far * math.sin(angle), rng.uniform(9, 14)))
    for x, y, radius in loops:
        long = rng.uniform(1.0, 1.45)
        loop = Shape(x, y, radius * long, radius / long**0.5, rng.uniform(0, math.pi), 0, ripple(rng, 0.08))
        canvas.paint(loop, 78.0, soft=1.5, within=inside)
        canvas.paint(loop.grown(-2.8), content, soft=1.5, within=inside)
        if rng.uniform() < 0.4:
            gas = loop._replace(y=y - 0.25 * radius, a=0.62 * loop.a, b=0.55 * loop.b)
            canvas.paint(gas, GAS, within=inside)


def _paint_liver(canvas: Canvas, rng: np.random.Generator, inside: Array, size: float) -> tuple[Array, Shape]:
    """Paint the joined lobes of the liver with their veins; return the right lobe's cover and its main part."""
    tissue = rng.uniform(100, 118) + 3.5 * canvas.grain
    right = Shape(
        -82 * size, rng.normal(-12, 4), 60 * size, rng.normal(70, 4), rng.normal(0.12, 0.08), 0, ripple(rng, 0.05)
    )
    left = Shape(
        rng.normal(-28, 5), rng.normal(-54, 4), rng.uniform(45, 58), rng.uniform(20, 27), rng.normal(-0.12, 0.08)
    )
    canvas.paint(left._replace(ripple=ripple(rng, 0.07)), tissue, soft=1.5, within=inside)
    canvas.paint(right, tissue, soft=1.5, within=inside)
    region, depth = canvas.depth(right)
    cover = np.zeros_like(inside)
    cover[region] = canvas.cover(depth - 1.5)
    cover *= inside
    start = np.array([-48.0 * size, rng.normal(-14, 4)])
    heading = rng.uniform(2.0, 4.4, size=7)[:, None] + np.cumsum(rng.normal(0, 0.2, size=(7, 14)), axis=1)
    reach = np.cumsum(np.stack([np.cos(heading), np.sin(heading)]) * rng.uniform(2.5, 4.6, size=7)[:, None], axis=2)
    radius = np.broadcast_to(np.linspace(3.8, 1.2, 14), (7, 14))
    veins = canvas.blobs(start[0] + reach[0].ravel(), start[1] + reach[1].ravel(), radius.ravel())
    canvas.blend(0.85 * veins * cover, 158.0)
    return cover, Shape(-84 * size, right.y - 8, 40 * size, 46, right.angle)


ABDOMEN = Anatomy(field_of_view=360.0, warp=2.7, window_center=50.0, window_width=400.0, lesion=METASTASIS, paint=paint)
