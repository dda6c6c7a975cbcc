"""The verdict on a generator: three answers of three records, and the scorecard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import medsynth
from medsynth.evaluation.answers import NO, NOT_SHOWN, YES
from medsynth.verdict.answer import Answer
from medsynth.verdict.faithful import copies_reference, faithful
from medsynth.verdict.scorecard import scorecard

QUESTIONS = {"faithful": "evaluate", "useful": "utility", "private": "audit"}  # and the commands that measure them
UNMEASURED = "what is not measured is not shown"
_ANSWERS = (YES, NO, NOT_SHOWN)
Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Three answers, each by a rule over measures with controls.

    Attributes:
        answers: to the questions of ``QUESTIONS``, in this order.
        scorecard: by criterion (``verdict/scorecard.py``).
    """

    answers: tuple[Answer, ...]
    scorecard: Mapping[str, Any]

    def __getitem__(self, question: str) -> Answer:
        """Return the answer to a question: ``verdict["private"].answer``."""
        return next(answer for answer in self.answers if answer.question == question)

    @property
    def sentence(self) -> str:
        """The answers in one sentence."""
        return ", ".join(f"{answer.question}: {answer.answer}" for answer in self.answers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``medsynth verdict`` writes them.

        ``format`` is 1. ``sentence`` has the answers in words. ``answers``: by question ``answer`` (``yes``, ``no``,
        ``not shown``), ``rule``, ``reasons`` and ``values``; those of ``faithful`` have ``name``, ``value``, ``low``,
        ``high``, ``control`` (real images at equal numbers), ``limit``, ``side``, ``count`` (generated, real), ``p``
        and ``p_holm``. ``scorecard``: by criterion ``meaning`` and ``measures``, or "not measured".
        """
        return {
            "format": 1,
            "medsynth": medsynth.__version__,
            "sentence": self.sentence,
            "answers": {answer.question: answer.record() for answer in self.answers},
            "scorecard": dict(self.scorecard),
        }


def verdict(
    evaluation: Record | None,
    utility: Record | None,
    audit: Record | None,
    *,
    card: Record | None = None,
    margin: float = 0.1,
    share: float = 0.8,
) -> Verdict:
    """Answer the three questions from the records of the three commands; None where one was not run.

    Args:
        evaluation: what ``medsynth evaluate`` wrote.
        utility: what ``medsynth utility`` wrote.
        audit: what ``medsynth audit`` wrote.
        card: of the generator's file.
        margin: of the rule of ``faithful``.
        share: of the rule of ``faithful``.
    """
    of_images = _not_measured("faithful") if evaluation is None else faithful(evaluation, margin=margin, share=share)
    answers = (
        of_images,
        _useful(utility, reference_seen=copies_reference(of_images)),
        _of_record("private", audit),
    )
    return Verdict(answers, scorecard(evaluation, audit, card))


def _useful(record: Record | None, *, reference_seen: bool) -> Answer:
    """Return the answer of the record, unless its test images are known to the generator."""
    answer = _of_record("useful", record)
    if not reference_seen or answer.answer != YES:
        return answer
    reason = "the generated images copy the test images, so that a gain on these says nothing"
    return dataclasses.replace(answer, answer=NO, reasons=(reason, *answer.reasons))


def _of_record(question: str, record: Record | None) -> Answer:
    if record is None:
        return _not_measured(question)
    reasons = record.get("reasons")
    answer = record.get("answer")
    if answer not in _ANSWERS or not isinstance(reasons, list):
        return dataclasses.replace(_not_measured(question), reasons=("its record is damaged: measure it again",))
    return Answer(question, answer, str(record.get("rule")), tuple(map(str, reasons)), tuple(_values(record)))


def _values(record: Record) -> list[dict[str, Any]]:
    values = record.get("values", record.get("differences", record.get("measures")))
    return [dict(value) for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _not_measured(question: str) -> Answer:
    command = f"medsynth {QUESTIONS[question]} run=..."
    return Answer(question, NOT_SHOWN, UNMEASURED, (f"not measured: {command} measures it",))
