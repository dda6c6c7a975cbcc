"""The fraction of a schedule's duration that has passed."""

from __future__ import annotations

from medsynth.contracts import InputError


def progress(images_seen: int, images: int) -> float:
    """Return ``images_seen / images``, at most 1.

    Raises:
        InputError: ``images`` is less than 1.
    """
    if images < 1:
        raise InputError(f"A schedule over images={images} is not possible: its images must be 1 or more.")
    return min(images_seen / images, 1.0)
