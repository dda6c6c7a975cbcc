"""What an anatomy consists of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from medsynth.data.phantom.canvas import Canvas
from medsynth.data.phantom.lesion import Kind, Site


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """One kind of slice.

    Args:
        field_of_view: side of the square picture in mm.
        warp: standard deviation of the smooth random displacement of all organs, in mm.
        window_center: middle of the usual window, in HU.
        window_width: width of the usual window, in HU.
        lesion: how its lesions look.
        paint: paints a healthy slice into the canvas and says where lesions may grow.
    """

    field_of_view: float
    warp: float
    window_center: float
    window_width: float
    lesion: Kind
    paint: Callable[[Canvas, np.random.Generator], Site]
