"""The rules by which signals become findings, and what they say.

A rule is a set of conditions on the signals of one validation, which have to hold in several validations in a row. Its
thresholds are in ``thresholds.json``, which ``scripts/fit_doctor.py --write`` writes; several rules may show one fault.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Thresholds = Mapping[str, float]
Row = Mapping[str, Any]  # {"images_seen": ..., "signals": {name: value}}


@dataclasses.dataclass(frozen=True)
class Condition:
    """A signal above or below its threshold; a signal that was not measured holds no condition.

    ``loosest`` is the threshold from which on the rule's sentence is true; a fitted one is at least as strict.
    """

    signal: str
    side: Literal["above", "below"]
    loosest: float

    def holds(self, signals: Mapping[str, float], threshold: float) -> bool:
        """Tell whether the condition holds."""
        value = signals.get(self.signal)
        if value is None:
            return False
        return value > threshold if self.side == "above" else value < threshold


@dataclasses.dataclass(frozen=True)
class Rule:
    """Conditions that show a fault if all of them hold in ``in_a_row`` validations in a row.

    Attributes:
        key: of the rule and, with a signal behind it, of its thresholds: ``mode_collapse.of_features``.
        conditions: that all have to hold.
        in_a_row: validations.
        after: validations at the beginning that are left out: every generator begins with few modes.
    """

    key: str
    conditions: tuple[Condition, ...]
    in_a_row: int = 2
    after: int = 0

    @property
    def name(self) -> str:
        """The fault's name."""
        return self.key.partition(".")[0]

    def first(self, rows: Sequence[Row], thresholds: Thresholds) -> int | None:
        """Return the number of the first row of those in a row, up to the last row, that show the fault; or None."""
        run = 0
        for row in reversed(rows[self.after :]):
            if not self._holds(row["signals"], thresholds):
                break
            run += 1
        return len(rows) - run if run >= self.in_a_row else None

    def _holds(self, signals: Mapping[str, float], thresholds: Thresholds) -> bool:
        return all(c.holds(signals, thresholds[f"{self.key}.{c.signal}"]) for c in self.conditions)


def _rule(key: str, *, above: str = "", below: str = "", in_a_row: int = 2, after: int = 2) -> Rule:
    """Make a rule of signals with their loosest thresholds: ``above="features.copies:0.1"``."""
    sides: tuple[tuple[Literal["above", "below"], str], ...] = (("above", above), ("below", below))
    conditions: list[Condition] = []
    for side, listed in sides:
        for text in listed.split():
            signal, _, loosest = text.partition(":")
            conditions.append(Condition(signal, side, float(loosest)))
    return Rule(key, tuple(conditions), in_a_row, after)


RULES = (
    _rule("mode_collapse.alike", above="pixels.similarity:0.1", below="pixels.nearest:-0.75"),
    _rule("mode_collapse.features", below="features.recall:0.3 features.variation:-1"),
    _rule("mode_collapse.rank", below="features.rank:-0.8"),
    _rule("mode_collapse.repeated", below="pixels.nearest:-3"),
    _rule("within_class_collapse", below="features.within_class:-1"),
    _rule("texture", above="pixels.detail:0.3 features.distance:0.12", below="pixels.layout:-0.5"),
    _rule("not_learning", above="features.distance:0.12 progress:0.4", below="features.coverage:0.3"),
    _rule("discriminator_too_strong", above="logits.gap:2.5 features.distance:0.12 progress:0.25"),
    _rule(
        "discriminator_too_weak", above="features.distance:0.12 progress:0.25", below="course.generator_gradient:-1.5"
    ),
    _rule("vanishing_gradient", above="features.distance:0.12", below="logits.slope:0.3"),
    _rule("discriminator_overfitting", above="logits.overfitting:0.3 logits.training_separated:0.6"),
    _rule("copying", above="features.copies:0.1"),
    _rule("oscillation", above="ema.apart:0.5 ema.raw_distance:0.2"),
    _rule("divergence", above="history.worse:0.4 features.distance:0.12"),
    _rule("augmentation_leak", above="features.leak:0"),
    _rule("checkerboard", above="pixels.checkerboard:1.5", after=4),
    _rule("uninformative_labels", below="features.label_information:0.2", after=0),
    _rule(
        "ignored_labels",
        above="features.label_information:0.2 progress:0.4",
        below="features.label_agreement:0.3",
    ),
    _rule(
        "too_short", above="history.doubling:0.3 progress:0.999", below="history.since_best:0.01", in_a_row=1, after=3
    ),
    _rule("few_validation_images", below="num_val:50", in_a_row=1, after=0),
)
NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))
REMARKS = ("too_short", "few_validation_images")  # say that the run is too small, and not that it fails
