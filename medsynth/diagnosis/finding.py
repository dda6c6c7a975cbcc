"""One finding of the doctor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from medsynth.report.findings import finding_text


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault of a training that its signals show.

    Attributes:
        name: of the fault: ``mode_collapse``.
        sentence: what is wrong, with the numbers that show it.
        evidence: the signals that the finding rests on.
        onset: images seen at the first of the validations in a row that show it.
        last: images seen at the last of them.
        confidence: share of the runs with such signals that had this fault, in the corpus that the thresholds were
            fitted on (``scripts/doctor_corpus.py``); None where it was not measured.
        advice: overrides that may help, the first one first.
        measured: what was measured of the first override; "" where nothing was.
    """

    name: str
    sentence: str
    evidence: Mapping[str, float]
    onset: int
    last: int
    confidence: float | None
    advice: tuple[str, ...] = ()
    measured: str = ""

    def record(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {**dataclasses.asdict(self), "advice": list(self.advice)}

    def text(self) -> str:
        """Return the finding in words, with its numbers and what to try."""
        return finding_text(self.record())
