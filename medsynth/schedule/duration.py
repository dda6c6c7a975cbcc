"""Schedules of a duration: the fraction of it that has passed, and values from its start to its end."""

from __future__ import annotations

import abc
import dataclasses

from medsynth.contracts import InputError


def progress(images_seen: int, images: int) -> float:
    """Return ``images_seen / images``, at most 1.

    Raises:
        InputError: ``images`` is less than 1.
    """
    if images < 1:
        raise InputError(f"A schedule over images={images} is not possible: its images must be 1 or more.")
    return min(images_seen / images, 1.0)


@dataclasses.dataclass(frozen=True)
class StartToEnd(abc.ABC):
    """A value that goes from ``start`` to ``end`` over ``images`` images, and then is ``end``.

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
        return self.end if done == 1 else self.start + (self.end - self.start) * self.changed(done)

    @abc.abstractmethod
    def changed(self, done: float) -> float:
        """Return the fraction of the change that is made when the fraction ``done`` of the images was seen."""
