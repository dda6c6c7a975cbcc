"""The cosine schedule."""

from __future__ import annotations

import math

from medsynth.schedule.duration import StartToEnd


class Cosine(StartToEnd):
    """Half a period of a cosine from ``start`` to ``end`` over ``images`` images, then ``end``.

    ``start + (end - start) * (1 - cos(pi * images_seen / images)) / 2``: the annealing of Loshchilov and Hutter 2017
    (SGDR, equation 5) without restarts; R3GAN's burn-in (Huang et al. 2024).
    """

    def changed(self, done: float) -> float:
        """Return the fraction of the change that is made after the fraction ``done`` of the images."""
        return (1 - math.cos(math.pi * done)) / 2
