"""Answers to the three questions, and the comparisons that they rest on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from scipy import stats as scipy_stats

stats: Any = scipy_stats  # without types
LEVEL = 0.05
_ONE_SIDED = 1.644854  # standard deviations of the normal distribution: 95 % lie below


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A value against the limit beyond which it speaks against the generator.

    Attributes:
        name: of the measure.
        value, low, high: with its 95 % interval.
        control: the value of real images at equal numbers; NaN: the measure has none.
        limit: what the control allows, with the margin of the rule.
        side: on which of the limit the value speaks against the generator.
        count: generated and real images.
    """

    name: str
    value: float
    low: float
    high: float
    control: float
    limit: float
    side: Literal["above", "below"]
    count: tuple[int, int]

    @property
    def beyond(self) -> float:
        """Distance of the value beyond the limit in standard errors; negative on the good side; NaN: not known."""
        error = (self.high - self.low) / (2 * 1.959964)
        distance = self.value - self.limit if self.side == "above" else self.limit - self.value
        if math.isnan(error):
            return math.nan
        return distance / error if error > 0 else math.copysign(math.inf, distance)

    @property
    def p(self) -> float:
        """One-sided p-value of a value that does not lie beyond the limit; 1 where it is not known."""
        return 1.0 if math.isnan(self.beyond) else float(stats.norm.sf(self.beyond))

    @property
    def within(self) -> bool:
        """The value lies on the good side of the limit with 95 % confidence."""
        return self.beyond <= -_ONE_SIDED

    def text(self) -> str:
        """Return the comparison in words."""
        control = "" if math.isnan(self.control) else f", real images {self.control:.3g}"
        return (
            f"{self.name} {self.value:.3g} ({self.low:.3g} to {self.high:.3g}{control}), "
            f"at {'most' if self.side == 'above' else 'least'} {self.limit:.3g} would do"
        )

    def record(self, corrected: float) -> dict[str, Any]:
        """Return plain values; ``corrected``: the p-value after the correction for many comparisons."""
        values = {**dataclasses.asdict(self), "count": list(self.count), "p": self.p, "p_holm": corrected}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        question: ``faithful``, ``useful`` or ``private``.
        answer: ``yes``, ``no`` or ``not shown``.
        rule: by which it was given, in one line.
        reasons: sentences, those that decided first.
        values: records of what was compared.
    """

    question: str
    answer: str
    rule: str
    reasons: tuple[str, ...] = ()
    values: tuple[dict[str, Any], ...] = ()

    def record(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "answer": self.answer,
            "rule": self.rule,
            "reasons": list(self.reasons),
            "values": [dict(value) for value in self.values],
        }
