"""The result of an audit and the rule by which it answers whether the generator is private."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import medsynth
from medsynth.audit.copies import Copies
from medsynth.audit.measures import AuditMeasure
from medsynth.audit.statistics import stats
from medsynth.evaluation.answers import NO, NOT_SHOWN, YES, holm

QUESTIONS = {
    "copies": "copies of training images",
    "attack_distance": "membership inference by distances to generated images",
    "attack_discriminator": "membership inference by the discriminator's logits",
    "linkage": "re-identification of patients through generated images",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Thresholds of an audit: what it tolerates, and what it has to be able to see.

    Attributes:
        level: probability with which any control is exceeded by chance, all tests together (Holm 1979).
        max_copies: share of flagged images beyond the control that is tolerated.
        max_auc: area under an attack's curve beyond its control that is tolerated.
        seen_copies: a share of copies that has to be found with a probability of 0.8 for the answer yes.
        seen_auc: an attack's area under the curve that has to be found likewise.
    """

    level: float = 0.01
    max_copies: float = 0.0
    max_auc: float = 0.0
    seen_copies: float = 0.05
    seen_auc: float = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditResult:
    """Copies, attacks and links of a generator, each with its control, and the answer.

    Attributes:
        sources: descriptions of training, held-out and generated images, with their numbers.
        copies: found by distances.
        measures: all measures.
        smallest_auc: area under the curve of an attack that would have been found with a probability of 0.8.
        limits: what is tolerated and what has to be seen.
        untold: questions that cannot be answered here, and why.
        pairs: numbers of generated and training images that are closest, with their scores, the closest first.
        patients: they are known.
        notes: sentences about what biases the values.
        seed: of noise, choices and resampling.
        extractors: configurations of the feature extractors by name.
    """

    sources: dict[str, tuple[str, int]]
    copies: Copies
    measures: tuple[AuditMeasure, ...]
    smallest_auc: float
    limits: Limits
    untold: dict[str, str]
    pairs: tuple[tuple[int, int, float], ...]
    patients: bool
    notes: tuple[str, ...] = ()
    seed: int = 0
    extractors: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def found(self) -> tuple[AuditMeasure, ...]:
        """The measures that exceed their control, after Holm's correction, by more than is tolerated."""
        p_values = {question: min(m.p for m in own) for question, own in self._questions.items()}
        corrected = holm([*p_values.values()])
        rejected = {name for name, p in zip(p_values, corrected, strict=True) if p <= self.limits.level}
        each = self.limits.level / max(len(p_values), 1)
        return tuple(
            measure
            for measure in self.measures
            if measure.question in rejected
            and (measure.p <= each or measure.p == p_values[measure.question])
            and measure.excess > self._tolerated(measure)
        )

    @property
    def _questions(self) -> dict[str, list[AuditMeasure]]:
        deciding = [measure for measure in self.measures if math.isfinite(measure.p)]
        return {
            name: [m for m in deciding if m.question == name] for name in dict.fromkeys(m.question for m in deciding)
        }

    def _tolerated(self, measure: AuditMeasure) -> float:
        if measure.question == "copies":
            return self.limits.max_copies
        return self.limits.max_auc if "_auc_" in f"{measure.name}_" else 0.0

    @property
    def answer(self) -> str:
        """no: a measure exceeds its control; yes: none does, and enough would have been seen; else not shown."""
        if self.found:
            return NO
        return NOT_SHOWN if list(self._unseen()) else YES

    @property
    def reasons(self) -> list[str]:
        """The sentences for the answer."""
        if self.found:
            return list(map(_exceeds, self.found))
        unseen = list(self._unseen())
        if unseen:
            return unseen
        return [
            f"No measure exceeds its control. A share of copies of {self.copies.smallest_share:.1%} would have been "
            f"found with a probability of 0.8, and an attack with an area under the curve of {self.smallest_auc:.2f}."
        ]

    def _unseen(self) -> Iterator[str]:
        share, limit = self.copies.smallest_share, self.limits.seen_copies
        if share > limit:
            found = f"only a share of {share:.1%} or more" if share <= 1 else "no share"
            yield (
                f"Of copies {found} would have been found with a probability of 0.8, and {limit:.1%} are asked for "
                "(seen_copies=): generate more images, or hold more out."
            )
        if not self.smallest_auc <= self.limits.seen_auc:
            yield (
                f"Of attacks only an area under the curve of {self.smallest_auc:.2f} or more would have been found, "
                f"and {self.limits.seen_auc:.2f} is asked for (seen_auc=): hold more images out."
            )

    @property
    def rule(self) -> str:
        """The rule of the answer in one line."""
        return (
            f"no: copies, an attack or links exceed their control (family-wise error {self.limits.level:g}, Holm) by "
            f"more than {self.limits.max_copies:g} (copies) or {self.limits.max_auc:g} (area under the curve); yes: "
            f"none does, and copies of {self.limits.seen_copies:g} and an area of {self.limits.seen_auc:g} would have "
            "been found; else not shown"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``medsynth audit`` writes them.

        Keys: ``format`` (1), ``answer`` (yes, no, not shown), ``rule``, ``reasons``; ``images`` (source and count of
        ``training``, ``held_out``, ``fake``), ``patients`` (known or not); ``measures``, each as in
        ``AuditMeasure.to_dict``, and ``found``, the names of those that exceed their control; ``copies`` (flagged
        images, smallest share that would have been found, recall of planted copies, tests of each space);
        ``smallest_auc``; ``limits``; ``untold`` (question -> why it cannot be answered); ``pairs`` (generated, training
        image, distance); ``notes``, ``seed``, ``extractors``, ``medsynth``. Numbers that are not known are None.
        """
        copies = self.copies
        return {
            "format": 1,
            "medsynth": medsynth.__version__,
            "answer": self.answer,
            "rule": self.rule,
            "reasons": self.reasons,
            "images": {name: {"source": source, "count": count} for name, (source, count) in self.sources.items()},
            "patients": self.patients,
            "measures": [measure.to_dict() for measure in self.measures],
            "found": [measure.name for measure in self.found],
            "copies": {
                "flagged": int(copies.flagged.sum()),
                "smallest_share": copies.smallest_share if math.isfinite(copies.smallest_share) else None,
                "recall": dataclasses.asdict(copies.recall),
                "spaces": {
                    name: [{"rank": rank, **dataclasses.asdict(test)} for rank, test in zip(ranks, pair, strict=True)]
                    for name, pair in copies.of_spaces.items()
                    for ranks in [("first", "one_percent")]
                },
            },
            "smallest_auc": self.smallest_auc if math.isfinite(self.smallest_auc) else None,
            "limits": dataclasses.asdict(self.limits),
            "untold": dict(self.untold),
            "pairs": [list(pair) for pair in self.pairs],
            "notes": list(self.notes),
            "seed": self.seed,
            "extractors": self.extractors,
        }


def _exceeds(measure: AuditMeasure) -> str:
    value, control = measure.estimate, measure.control
    return (
        f"{measure.name} is {value.value:.3g} ({value.low:.3g} to {value.high:.3g}) where its control has "
        f"{control.value:.3g} ({control.low:.3g} to {control.high:.3g}); by chance in {measure.p:.1g} of cases: "
        f"{QUESTIONS[measure.question]}."
    )


def smallest_auc(members: Sequence[int], tests: int, level: float, z_of_power: float = 0.8416) -> float:
    """Return the area under the curve that a test finds with a probability of 0.8.

    Args:
        members: independent members and held-out images, or patients.
        tests: by which ``level`` is divided.
        level: the error.
        z_of_power: standard deviations of the normal distribution above which 0.2 lie.
    """
    first, second = members
    deviation = math.sqrt((first + second + 1) / (12 * first * second))  # Mann and Whitney 1947
    return 0.5 + (float(stats.norm.isf(level / tests)) + z_of_power) * deviation
