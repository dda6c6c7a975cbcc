"""The scorecard of synthetic medical data: seven criteria, each with what was measured of it, or that nothing was.

Criteria of G. Zamzmi et al., "Scorecard for synthetic medical data evaluation", Communications Engineering 4 (2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medsynth.report.run_files import entry, finite

NOT_MEASURED = "not measured"
MEANING = {
    "congruence": "the distribution of generated images is that of real ones",
    "coverage": "the diversity of real images is there",
    "constraint": "limits of what is possible are kept: intensities, frequencies, labels",
    "completeness": "what a data set needs is there: all classes, physical units, pixel spacing, modality",
    "compliance": "privacy of the people whose images were trained on",
    "comprehension": "people understand the images and their description as meant",
    "consistency": "the quality is the same in all classes",
}
_MEASURES = {  # beginnings of the names of measures of an evaluation
    "congruence": ("c2st_", "kd_", "gaussian_kd_", "fd_", "fid", "kid"),
    "coverage": ("coverage_", "recall_", "ms_ssim"),
    "constraint": ("intensity_distance", "spectrum_distance", "label_agreement_"),
}
_CARD = ("intensity", "spacing", "modality", "class_names")


def scorecard(
    evaluation: Mapping[str, Any] | None, audit: Mapping[str, Any] | None, card: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Return by criterion its ``meaning`` and its ``measures``; where there are none, ``measures`` is "not measured".

    Args:
        evaluation: record of ``medsynth evaluate``; None: there is none.
        audit: record of ``medsynth audit``; None: there is none.
        card: of the generator's file; None: there is none.
    """
    of_images = [row for row in (evaluation or {}).get("measures", ()) if isinstance(row, Mapping)]
    found: dict[str, list[dict[str, Any]]] = {
        criterion: [_measure(row) for row in of_images if str(row.get("name")).startswith(starts)]
        for criterion, starts in _MEASURES.items()
    }
    found["completeness"] = list(_completeness(card))
    found["compliance"] = [] if audit is None else [{"name": "audit", "value": audit.get("answer")}]
    found["consistency"] = list(_by_class(evaluation or {}))
    return {
        criterion: {"meaning": meaning, "measures": found.get(criterion) or NOT_MEASURED}
        for criterion, meaning in MEANING.items()
    }


def _measure(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row.get("name"),
        **{name: finite(row.get(name)) for name in ("value", "low", "high", "baseline")},
        "count": [row.get("num_fake"), row.get("num_real")],
    }


def _completeness(card: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if card is None:
        return
    for name in _CARD:
        yield {"name": name, "value": bool(entry(card, name))}


def _by_class(evaluation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    classes = evaluation.get("classes")
    for name, measures in classes.items() if isinstance(classes, Mapping) else ():
        for row in measures:
            if str(row.get("name")).startswith("c2st_"):
                yield _measure(row) | {"class": name}
