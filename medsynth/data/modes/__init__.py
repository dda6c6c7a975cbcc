"""Known-answer problems: data whose modes are known, countable and equally frequent, to see which of them a GAN finds.

Points of a mixture of Gaussians in the plane (gaussian), and drawn slices that are products of attributes
(stacked_phantoms). Each source reads the modes back from images (``contracts.ModeReader``), for ``metrics=modes``.
"""

from medsynth.data.modes.gaussian import GaussianGrid, GaussianRing
from medsynth.data.modes.stacked_phantoms import StackedPhantoms

__all__ = ["GaussianGrid", "GaussianRing", "StackedPhantoms"]
