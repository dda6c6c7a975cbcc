"""The cosine schedule."""

from __future__ import annotations

import dataclasses
import math

from medsynth.schedule.duration import progress


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Half a period of a cosine from ``start`` to ``end`` over ``images`` images, then ``end``.

    ``start + (end - start) * (1 - cos(pi * images_seen / images)) / 2``: the annealing of Loshchilov and Hutter 2017
    (SGDR, equation 5) without restarts; R3GAN's burn-in (Huang et al. 2024).

    Attributes:
        start: value at the start of the training.
        end: value from ``images`` on.
        images: real images in which the value changes.

    Raises:
        InputError: ``images`` is less than 1.
    """

    start: float
    end: float
    images: int

    def __post_init__(self) -> None:
        progress(0, self.images)

    def __call__(self, images_seen: int) -> float:
        """Return the value after ``images_seen`` real images."""
        done = progress(images_seen, self.images)
        return self.end if done == 1 else self.start + (self.end - self.start) * (1 - math.cos(math.pi * done)) / 2
