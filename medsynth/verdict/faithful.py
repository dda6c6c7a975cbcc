"""The rule that says whether generated images are faithful, from a record of ``medsynth evaluate``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.evaluation.answers import NO, NOT_SHOWN, YES, holm
from medsynth.report.run_files import finite
from medsynth.verdict.answer import LEVEL, Answer, Comparison

NETWORKS = 2  # extractors at least, so that images that please one of them do not pass
_REFERENCE = "reference_copies_"


def faithful(record: Mapping[str, Any], *, margin: float = 0.1, share: float = 0.8) -> Answer:
    """Answer from the measures of a record; ``not shown`` where they are missing or too uncertain.

    Args:
        record: of ``medsynth evaluate``.
        margin: of the area under the curve, of the share of labels, and of copies of the reference, above (below) what
            real images have.
        share: of the coverage of real images.
    """
    rule = (
        f"yes: with every extractor, the classifier's AUC (c2st) is at most {margin:g} above that of real images (0.5 "
        f"at least), coverage at least {share:g} of theirs, labels are shown in at most {margin:g} fewer images, and "
        f"copies of the reference are at most {margin:g} more than by chance (95 % each); no: one is beyond (95 %, "
        "Holm); else not shown"
    )
    found = list(_comparisons(record, margin, share))
    told = [comparison for comparison in found if comparison.name.startswith("c2st_")]
    corrected = holm([comparison.p for comparison in found])
    values = tuple(c.record(p) for c, p in zip(found, corrected, strict=True))
    against = [c for c, p in zip(found, corrected, strict=True) if p < LEVEL]
    if seen := [c for c in against if c.name.startswith(_REFERENCE)]:
        sentence = "The generated images copy the reference, so that nothing measured on it says anything: "
        return Answer("faithful", NO, rule, tuple(sentence + c.text() for c in seen), values)
    if against:
        worst = sorted(against, key=lambda comparison: -comparison.beyond)
        return Answer("faithful", NO, rule, tuple(c.text() for c in worst), values)
    missing = tuple(_missing(record, told))
    uncertain = tuple(f"not certain: {c.text()}" for c in found if not c.within)
    if missing or uncertain:
        return Answer("faithful", NOT_SHOWN, rule, (*missing, *uncertain), values)
    return Answer("faithful", YES, rule, tuple(c.text() for c in found), values)


def copies_reference(answer: Answer) -> bool:
    """Tell whether an answer is no since the generated images copy those that they are measured on."""
    return any(value["name"].startswith(_REFERENCE) and value["p_holm"] < LEVEL for value in answer.values)


def _missing(record: Mapping[str, Any], told: Sequence[Comparison]) -> Iterator[str]:
    if len(told) < NETWORKS:
        yield f"c2st was measured by {len(told)} extractors, and {NETWORKS} are needed: medsynth evaluate measures it"
    if not record.get("training"):
        yield "copies of the reference cannot be told without training images: give training="


def _comparisons(record: Mapping[str, Any], margin: float, share: float) -> Iterator[Comparison]:
    """Yield the comparisons that the measures of a record allow."""
    for row in record["measures"]:
        name, control = row["name"], finite(row.get("baseline"))
        value, low, high = (finite(row.get(end)) for end in ("value", "low", "high"))
        if value is None or control is None:
            continue
        ends = (math.nan, math.nan) if low is None or high is None else (low, high)
        count = (int(row["num_fake"]), int(row["num_real"]))
        if name.startswith("c2st_"):
            yield Comparison(name, value, *ends, control, max(control, 0.5) + margin, "above", count)
        elif name.startswith("coverage_") and (at_equal := finite(row.get("at_baseline"))) is not None:
            # Coverage depends on the number of images: the value is that at the baseline's, of an equal relative width.
            scale = at_equal / value if value > 0 else 1.0
            ends = (ends[0] * scale, ends[1] * scale)
            yield Comparison(name, at_equal, *ends, control, share * control, "below", count)
        elif name.startswith("label_agreement_"):
            yield Comparison(name, value, *ends, control, control - margin, "below", count)
        elif name.startswith(_REFERENCE):
            yield Comparison(name, value, *ends, control, control + margin, "above", count)
