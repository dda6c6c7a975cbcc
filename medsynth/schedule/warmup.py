"""The warm-up schedule: a linear rise before another schedule."""

from __future__ import annotations

import dataclasses

from medsynth.contracts import Schedule, check_contract
from medsynth.schedule.duration import progress


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """A straight line from ``start`` to the first value of another schedule, then that schedule.

    The other schedule begins when the warm-up is over: it is asked for ``images_seen - images``.

    Attributes:
        images: real images in the warm-up.
        then: the schedule that follows.
        start: value at the start of the training.

    Raises:
        InputError: ``images`` is less than 1, or ``then`` is not a schedule.
    """

    images: int
    then: Schedule
    start: float = 0.0

    def __post_init__(self) -> None:
        check_contract(self.then, Schedule, "then of a warm-up schedule")
        progress(0, self.images)

    def __call__(self, images_seen: int) -> float:
        """Return the value after ``images_seen`` real images."""
        if images_seen >= self.images:
            return self.then(images_seen - self.images)
        return self.start + (self.then(0) - self.start) * progress(images_seen, self.images)
