"""The answer: are networks that are trained with the generated images better on real ones, by a rule in one line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from medsynth.evaluation.answers import NO, NOT_SHOWN, YES, holm
from medsynth.utility.statistics import Measured

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An arm with generated images against each of its controls at the same number of real images.

    Attributes:
        label: of the arm, for people.
        gains: label of a control -> the gain over it, positive where the arm is better.
    """

    label: str
    gains: dict[str, Measured]

    @property
    def p(self) -> float:
        """Largest two-sided p-value of the controls; 1 where the arm is not better than all of them.

        To be better than the best of several controls is to be better than each (an intersection-union test, Berger
        1982), so that no correction for the number of controls is needed.
        """
        return float(np.max([gain.p if gain.value > 0 else 1.0 for gain in self.gains.values()]))

    @property
    def high(self) -> float:
        """Upper end of the gain over the best control: the lowest of the upper ends."""
        return float(np.min([gain.high for gain in self.gains.values()]))


def rule(measure: str, worthwhile: float) -> str:
    """Return the rule in one line."""
    return (
        f"yes: an arm with real and generated images has a better {measure} than duplicated real images and than the "
        f"best of real and augmented real images (95 %, Holm over the arms); no: the 95 % intervals of all these arms "
        f"exclude a gain of {worthwhile:g}; else not shown"
    )


def answer(comparisons: Sequence[Comparison], worthwhile: float) -> tuple[str, list[str], list[float]]:
    """Apply the rule to the arms with real and generated images.

    Args:
        comparisons: of these arms, at all real images.
        worthwhile: the smallest gain worth having.

    Returns:
        The answer, its reasons, and the p-value of each arm after Holm.
    """
    corrected = holm([1.0 if math.isnan(comparison.p) else comparison.p for comparison in comparisons])
    better = [c for c, p in zip(comparisons, corrected, strict=True) if p < LEVEL]
    reasons = [_reason(c, p) for c, p in zip(comparisons, corrected, strict=True)]
    if better:
        return YES, reasons, corrected
    if all(comparison.high < worthwhile for comparison in comparisons):
        return NO, reasons, corrected
    return NOT_SHOWN, reasons, corrected


def _reason(comparison: Comparison, p: float) -> str:
    name, least = min(comparison.gains.items(), key=lambda item: item[1].value)
    return (
        f"{comparison.label}: least gain {least.value:+.4f} ({least.low:+.4f} to {least.high:+.4f}), over {name}; "
        f"p = {p:.3g} after Holm"
    )
