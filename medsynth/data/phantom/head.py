"""An axial slice of the head without contrast agent, from the basal ganglia up to the centrum semiovale.

Typical HU without contrast agent (W. A. Kalender, Computed Tomography, 3rd ed., 2011, and radiology textbooks): skin
and muscle 40 to 60, fat -100, compact bone 1000 and more, spongy bone 300 to 600, gray matter 37 to 41, white matter
25 to 31, cerebrospinal fluid 0 to 15, falx 50 to 60, fresh blood 60 to 90, edema 10 to 25, calcification above 100.
"""

from __future__ import annotations

import numpy as np

from medsynth.data.phantom.anatomy import Anatomy
from medsynth.data.phantom.canvas import Array, Canvas, Shape, ripple
from medsynth.data.phantom.lesion import LesionSite, LesionType

HEMORRHAGE = LesionType(radius=(9.0, 14.0), hu=(66.0, 84.0), rim=4.0, rim_hu=17.0)

FLUID, GRAY, WHITE = 8.0, 39.0, 26.0


def paint(canvas: Canvas, rng: np.random.Generator) -> LesionSite:
    """Paint one healthy head, and return the site of lesions: the white matter off the midline."""
    level = rng.uniform()
    wide, long = rng.normal(73, 2.5), rng.normal(92, 3)
    egg = (
        complex(rng.normal(0, 0.008), 0),
        complex(0, rng.normal(-0.012, 0.006)),
        complex(rng.normal(-0.012, 0.006), 0),
    )
    head = Shape(0, 0, wide, long, ripple=egg)
    skull, brain = _paint_skull(canvas, rng, head)
    bulk = canvas.cover(brain)
    _paint_matter(canvas, rng, brain, bulk, level)
    _paint_nuclei(canvas, rng, level)
    _paint_midline(canvas, rng, bulk, long, level)
    _paint_ventricles(canvas, rng, level)
    if level < 0.35:
        _paint_sinuses(canvas, rng, long, canvas.cover(skull - 1.5) * (1 - canvas.cover(brain + 1.5)))
    lobes = tuple(Shape(side * 31, 2, 17, 52, angle=side * 0.08) for side in (-1, 1))
    return LesionSite(lobes, Shape(0, 0, wide - 13, long - 13), canvas.cover(brain - 1.0))


def _paint_skull(canvas: Canvas, rng: np.random.Generator, head: Shape) -> tuple[Array, Array]:
    """Paint skin, fat and the layers of the bone; return the depths under its outer and inner face."""
    region, inside = canvas.depth(head)
    depth = np.full_like(canvas.hu, -99.0)
    depth[region] = inside
    uneven = canvas.field(rng, 45.0)
    scalp, bone = rng.uniform(4.5, 7.0), rng.uniform(5.5, 8.0)
    fat = 2.0
    skull = depth - scalp - 0.5 * uneven
    thick = bone + 0.7 * canvas.field(rng, 40.0)
    # The forehead and the back of the head are thicker than the temples.
    thick += 2.2 * (canvas.y / 90) ** 2
    brain = skull - thick
    canvas.blend(canvas.cover(depth), 45.0)
    canvas.blend(canvas.cover(depth - fat), -70.0)
    # The temporal muscles.
    canvas.blend(canvas.cover(skull + 0.8 + rng.uniform(1, 3) * np.square(np.square(canvas.x / head.a))), 52.0)
    canvas.blend(canvas.cover(skull), rng.uniform(1000, 1300))
    diploe = np.minimum(canvas.cover(skull - 0.32 * thick), 1 - canvas.cover(skull - 0.68 * thick))
    canvas.blend(diploe, rng.uniform(350, 600))
    canvas.blend(canvas.cover(brain), FLUID)
    return skull, brain


def _paint_matter(canvas: Canvas, rng: np.random.Generator, brain: Array, bulk: Array, level: float) -> None:
    """Paint folded gray and white matter: sulci are where a random field crosses zero near the surface."""
    # Waves around the center, bent by a random field: sulci run inwards, 14 mm apart.
    around = canvas.point / (np.abs(canvas.point) + 1.0)
    for _ in range(4):
        around *= around
    folds = 0.7 * (around * np.exp(1j * rng.uniform(0, 6.28))).real + 0.8 * canvas.field(rng, 20.0)
    atrophy = rng.uniform(0.5, 1.5)
    reach = 13.0 + 5.0 * canvas.field(rng, 30.0)
    # |folds| / gradient is about the distance from a sulcus in mm.
    aside = np.abs(folds) * 7.0
    sulcus = np.maximum(aside - 1.4 * atrophy, brain - reach)
    surface = brain - 0.8 * atrophy
    cortex = np.minimum(surface, np.maximum(sulcus, brain - reach))
    white = np.minimum(surface - 4.0, np.maximum(aside - 1.4 * atrophy - 3.0, brain - reach - 3.0))
    texture = 1.2 * canvas.grain + 1.5 * canvas.field(rng, 40.0)
    canvas.blend(canvas.cover(cortex, 2.0), GRAY + texture)
    canvas.blend(canvas.cover(white, 3.0), WHITE + texture)
    if level < 0.6:
        width = (0.6 - level) * 8
        for side in (-1, 1):
            fissure = Shape(side * rng.normal(50, 2), rng.normal(-12, 3), width, 15, side * rng.normal(0.9, 0.1), 0.5)
            canvas.paint(fissure.grown(3.0), GRAY, soft=2.0, within=bulk)
            canvas.paint(fissure, FLUID + 2, soft=2.0, within=bulk)


def _paint_nuclei(canvas: Canvas, rng: np.random.Generator, level: float) -> None:
    """Paint lentiform nucleus, thalamus and caudate of both sides; they fade at higher levels."""
    gray = WHITE + (GRAY + 1 - WHITE) * min(1.0, 2.2 * (1 - level))
    size = rng.normal(1, 0.06)
    for side in (-1, 1):
        canvas.paint(
            Shape(side * 26, -8, 5.5 * size, 15 * size, side * 0.3, side * -0.25, ripple(rng, 0.05)), gray, soft=2.0
        )
        canvas.paint(Shape(side * 10, 8, 7.5 * size, 12 * size, side * -0.45, 0, ripple(rng, 0.05)), gray, soft=2.0)
        canvas.paint(Shape(side * 14, -24, 4.5 * size, 9 * size, side * -0.3), gray, soft=2.0)


def _paint_midline(canvas: Canvas, rng: np.random.Generator, bulk: Array, long: float, level: float) -> None:
    """Paint the fissure between the hemispheres with the falx, before and behind the corpus callosum."""
    gap = rng.uniform(1.0, 2.2)
    front, back = rng.normal(-36, 3) + 12 * level, rng.normal(38, 3) - 8 * level
    for near, far in ((front, -long), (back, long)):
        middle, half = (near + far) / 2, abs(far - near) / 2
        canvas.paint(Shape(0, middle, gap + 4, half + 3), GRAY, soft=2.0, within=bulk)
        canvas.paint(Shape(0, middle, gap, half), FLUID + 4, soft=1.0, within=bulk)
        canvas.paint(Shape(0, middle + 0.2 * (far - near), 0.9, 0.8 * half), 58.0, within=bulk)
    # The superior sagittal sinus, full of blood, where the falx meets the back of the skull.
    canvas.paint(Shape(0, long - 17, 4, 3.5), 55.0, soft=2.0, within=bulk)


def _paint_ventricles(canvas: Canvas, rng: np.random.Generator, level: float) -> None:
    """Paint lateral ventricles (horns below, bodies above), third ventricle, pineal gland and choroid plexus."""
    size = rng.lognormal(0, 0.22)
    low, high = max(0.0, 1 - 1.3 * level), max(0.0, 1 - abs(level - 0.65) / 0.4)
    calcified = rng.uniform(60, 260, size=3)
    for number, side in enumerate((-1, 1)):
        uneven = size * rng.normal(1, 0.08)
        horns = (
            Shape(side * (6 + 3 * uneven), -28, 4.2 * uneven * (0.4 + 0.6 * low), 13, side * 0.38, side * 0.6),
            Shape(side * (20 + 3 * uneven), 33, 4.6 * uneven * (0.3 + 0.7 * low), 15, side * -0.35, side * -0.6),
        )
        for horn in horns[: 2 if level < 0.8 else 0]:
            canvas.paint(horn._replace(ripple=ripple(rng, 0.04)), FLUID, soft=1.5)
        if high > 0.05:
            canvas.paint(
                Shape(side * (7 + 3 * uneven), 2, 6.5 * uneven * high, 32, side * -0.1, side * -0.7), FLUID, soft=1.5
            )
        if level < 0.6:
            plexus = rng.uniform(1.5, 2.8)
            canvas.paint(Shape(side * (20 + 3 * uneven), 27, plexus, plexus), float(calcified[number]), soft=2.0)
    if low > 0.25:
        canvas.paint(Shape(0, 6, 1.8 * size * low + 0.6, 11), FLUID, soft=1.0)
        canvas.paint(Shape(0, 22, 2.2, 2.2), float(calcified[2]), soft=2.0)


def _paint_sinuses(canvas: Canvas, rng: np.random.Generator, long: float, bone: Array) -> None:
    """Paint the frontal sinuses: air in the bone of the forehead."""
    for side in (-1, 1):
        wide = rng.uniform(5, 13)
        canvas.paint(
            Shape(side * (wide + 1), 11.5 - long, wide, rng.uniform(2.0, 4.5), side * 0.2), -950.0, within=bone
        )


HEAD = Anatomy(field_of_view=215.0, warp=2.5, window_center=40.0, window_width=120.0, lesion=HEMORRHAGE, paint=paint)
