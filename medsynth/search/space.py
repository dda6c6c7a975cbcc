"""What a search may choose: for each option a list of choices or an interval, and what Optuna is asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medsynth.errors import InputError

if TYPE_CHECKING:
    from optuna import Trial

_DIGITS = 4  # of a value that is drawn from an interval: more would say nothing, and be hard to read
_WITHIN = 0.382  # of an interval: neither end nor middle, so that its value is no whole number by chance


@dataclass(frozen=True)
class Choices:
    """One of several values, each written as an override has it after the equal sign."""

    key: str
    values: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        """The value that Optuna picks for ``trial``."""
        return str(trial.suggest_categorical(self.key, self.values))

    def examples(self) -> tuple[str, ...]:
        """Values that have to compose, or the search does not start."""
        return self.values


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included; ``step`` is None where they are continuous.

    Raises:
        InputError: an empty interval, or one on a logarithmic scale that reaches zero or has steps.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        shown = f"{self.key}: from {self.low:g} to {self.high:g}"
        if not self.low < self.high:
            raise InputError(
                f"{shown} there is nothing to search: give a lower end that is smaller than the upper one."
            )
        if self.log and self.low <= 0:
            raise InputError(f"{shown} there is no logarithmic scale: give a lower end above 0, or leave out log.")
        if self.log and self.step not in (None, 1):
            raise InputError(f"{shown} a logarithmic scale has no steps of {self.step:g}: leave out the step.")

    def suggest(self, trial: Trial) -> str:
        """The value that Optuna picks for ``trial``."""
        if self.whole:
            number = trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        else:
            number = trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        return self.written(number)

    def examples(self) -> tuple[str, ...]:
        """Both ends and a value between them, which have to compose, or the search does not start."""
        between = self.low + _WITHIN * (self.high - self.low)
        if self.step is not None:
            between = self.low + self.step * int((between - self.low) / self.step)
        return self.written(self.low), self.written(self.high), self.written(between)

    def written(self, number: float) -> str:
        """As in an override: whole numbers whole, others with four digits and inside the interval."""
        if self.whole:
            return str(round(number))
        return repr(min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high))


Dimension = Choices | Interval


def described(space: Sequence[Dimension]) -> list[str]:
    """The space in words that tell two spaces apart; kept with a search and compared when it is resumed."""
    return sorted(repr(dimension) for dimension in space)


def suggest(space: Sequence[Dimension], trial: Trial) -> list[str]:
    """Overrides ``key=value`` of a trial. A trial that was asked before gets its earlier values."""
    return [f"{dimension.key}={dimension.suggest(trial)}" for dimension in space]
