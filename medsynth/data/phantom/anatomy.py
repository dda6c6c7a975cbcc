"""The definition of an anatomy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from medsynth.data.phantom.canvas import Canvas
from medsynth.data.phantom.lesion import LesionSite, LesionType


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """One kind of slice.

    Attributes:
        field_of_view: side of the square image in mm.
        warp: standard deviation of the smooth random displacement of all organs, in mm.
        window_center: middle of the usual window, in HU.
        window_width: width of the usual window, in HU.
        lesion: the appearance of its lesions.
        paint: paints a healthy slice into the canvas and returns where lesions may be placed.
    """

    field_of_view: float
    warp: float
    window_center: float
    window_width: float
    lesion: LesionType
    paint: Callable[[Canvas, np.random.Generator], LesionSite]
