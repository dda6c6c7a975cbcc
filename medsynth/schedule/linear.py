"""The linear schedule."""

from __future__ import annotations

from medsynth.schedule.duration import StartToEnd


class Linear(StartToEnd):
    """A straight line from ``start`` to ``end`` over ``images`` images, then ``end``."""

    def changed(self, done: float) -> float:
        """Return the fraction of the change that is made after the fraction ``done`` of the images, which is equal."""
        return done
