"""The findings of a run, as its summary records them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth.report.run_files import finite
from medsynth.runs.layout import DIAGNOSIS

PICTURES = DIAGNOSIS.partition(".")[0]  # the folder beside the doctor's rows


def findings(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the records that have a name and a sentence; those of a damaged file are left out."""
    recorded = summary.get("findings")
    kept = [record for record in recorded if isinstance(record, Mapping)] if isinstance(recorded, list) else []
    return [
        record for record in kept if isinstance(record.get("name"), str) and isinstance(record.get("sentence"), str)
    ]


def finding_pictures(summary: Mapping[str, Any], folder: Path) -> list[Path | None]:
    """Return for each finding the picture that shows it, which the doctor wrote into the run's folder, or None."""
    names = [record["name"] for record in findings(summary)]
    paths = [folder / PICTURES / f"{name}.png" if name.replace("_", "").isalpha() else None for name in names]
    return [path if path is not None and path.is_file() else None for path in paths]


def finding_names(summary: Mapping[str, Any]) -> list[str]:
    """Return the findings' names in words: "mode collapse"."""
    return [record["name"].replace("_", " ") for record in findings(summary)]


def finding_record_names(summary: Mapping[str, Any]) -> list[str]:
    """Return the findings' names as the doctor records them: "mode_collapse"."""
    return [record["name"] for record in findings(summary)]


def finding_texts(summary: Mapping[str, Any]) -> list[str]:
    """Return a text for each finding."""
    return [finding_text(record) for record in findings(summary)]


def finding_text(record: Mapping[str, Any]) -> str:
    """Return what is wrong, since when, how certain, the numbers, and what to try."""
    onset, confidence = finite(record.get("onset")), finite(record.get("confidence"))
    evidence, advice = record.get("evidence"), record.get("advice")
    notes = [] if onset is None else [f"since {onset:,.0f} images"]
    notes += [] if confidence is None else [f"{confidence:.0%} of such runs in the corpus had it"]
    if isinstance(evidence, Mapping):
        numbers = {str(name): finite(value) for name, value in evidence.items()}
        notes += [f"{name} {value:.3g}" for name, value in numbers.items() if value is not None]
    text = f"{record['sentence']} ({', '.join(notes)})." if notes else f"{record['sentence']}."
    if isinstance(advice, list) and advice:
        measured = record.get("measured")
        first = f"{advice[0]} ({measured})" if measured else f"{advice[0]}"
        text += f" Try {' or '.join([first, *map(str, advice[1:])])}."
    return text
