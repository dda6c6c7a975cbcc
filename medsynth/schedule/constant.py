"""The constant schedule."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same value at all times.

    Attributes:
        value: the value.
    """

    value: float

    def __call__(self, images_seen: int) -> float:
        """Return the value."""
        return self.value
