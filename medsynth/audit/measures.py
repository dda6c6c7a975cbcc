"""A measure of an audit with its control, and the forms in which both are stored."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from medsynth.metrics.interval import Estimate


@dataclasses.dataclass(frozen=True)
class AuditMeasure:
    """A value that shows a leak where it exceeds its control.

    Attributes:
        name: such as ``copies`` or ``attack_auc_mini``.
        estimate: the value with its 95 % interval.
        control: the same measure where nothing can leak, with the interval that contains 95 % of it.
        num: images that the value is of.
        num_control: images that the control is of.
        p: probability of such a value without a leak; NaN: the measure alone decides nothing.
        question: the family of measures that it belongs to: copies, attack_distance, attack_discriminator, linkage.
        rule: one line: how value and control are made and when they count.
    """

    name: str
    estimate: Estimate
    control: Estimate
    num: int
    num_control: int
    p: float
    question: str
    rule: str

    @property
    def excess(self) -> float:
        """The value beyond the control."""
        return self.estimate.value - self.control.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; None where a number is not known."""
        return {
            "name": self.name,
            "question": self.question,
            **{name: _plain(getattr(self.estimate, name)) for name in ("value", "low", "high")},
            "control": _plain(self.control.value),
            "control_low": _plain(self.control.low),
            "control_high": _plain(self.control.high),
            "n": self.num,
            "n_control": self.num_control,
            "p": _plain(self.p),
            "rule": self.rule,
        }


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
