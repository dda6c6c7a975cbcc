"""The space of a search: for each option a list of choices or an interval, from which Optuna picks values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medsynth.errors import InputError

if TYPE_CHECKING:
    from optuna import Trial

_DIGITS = 4  # significant digits of a value from an interval: more would make no difference and be hard to read
_WITHIN = 0.382  # position in an interval of an example that is no whole number by chance


@dataclass(frozen=True)
class Choices:
    """An option with several values, each written as in an override after the equal sign."""

    key: str
    values: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        """Return the value that Optuna picks for ``trial``."""
        return str(trial.suggest_categorical(self.key, self.values))

    def examples(self) -> tuple[str, ...]:
        """Return the values that are composed before the search starts."""
        return self.values


@dataclass(frozen=True)
class Interval:
    """An option with values from ``low`` to ``high``, both included.

    Attributes:
        key: of the option.
        low: lower end.
        high: upper end.
        step: distance between values; None: continuous.
        log: the values are drawn on a logarithmic scale.
        whole: the values are whole numbers.

    Raises:
        InputError: the interval is empty, or on a logarithmic scale it reaches zero or has steps.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        shown = f"{self.key} from {self.low:g} to {self.high:g}"
        if not self.low < self.high:
            raise InputError(f"{shown} is an empty interval: give a lower end that is smaller than the upper one.")
        if self.log and self.low <= 0:
            raise InputError(f"{shown} cannot be on a logarithmic scale: give a lower end above 0, or leave out log.")
        if self.log and self.step not in (None, 1):
            raise InputError(f"{shown} cannot have steps of {self.step:g} on a logarithmic scale: leave out the step.")

    def suggest(self, trial: Trial) -> str:
        """Return the value that Optuna picks for ``trial``."""
        if self.whole:
            number = trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        else:
            number = trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        return self.written(number)

    def examples(self) -> tuple[str, ...]:
        """Return both ends and a value between them, which are composed before the search starts."""
        between = self.low + _WITHIN * (self.high - self.low)
        if self.step is not None:
            between = self.low + self.step * int((between - self.low) / self.step)
        return self.written(self.low), self.written(self.high), self.written(between)

    def written(self, number: float) -> str:
        """Format a number for an override: a whole number, or four significant digits inside the interval."""
        if self.whole:
            return str(round(number))
        return repr(min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high))


Dimension = Choices | Interval


def described(space: Sequence[Dimension]) -> list[str]:
    """Describe the space by texts that differ between spaces; kept with a search and compared when it is resumed."""
    return sorted(repr(dimension) for dimension in space)


def suggest(space: Sequence[Dimension], trial: Trial) -> list[str]:
    """Return the overrides ``key=value`` of a trial. A trial that was asked before gets the same values again."""
    return [f"{dimension.key}={dimension.suggest(trial)}" for dimension in space]
