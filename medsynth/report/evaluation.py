"""Records of ``medsynth evaluate``: read from the folder of a run, and shown as a table in the terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medsynth.report.run_files import entry
from medsynth.report.translation import aligned, translation_remarks, translation_tables
from medsynth.runs.records import read_json
from medsynth.terminal import line_width

HEADER = ("", "value", "95 % interval", "baseline", "ratio", "N real", "N fake", "N baseline", "better")
EXPLANATION = (
    "Baseline: the same measure between real images and other real images, with N baseline images on each side "
    "(training images, for copies and distances to them: training and reference images). Ratio: the measure of "
    "generated images at that N / baseline; unbiased distances have none.",
    "95 % interval: where the measure would be expected for other images of the same sources, as many "
    "as here. It holds neither the bias by their number, which the baseline shows, nor the spread over trainings with "
    "other seeds, and measures of training images are conditional on these.",
)
BETTER = {"lower": "lower", "higher": "higher", "baseline": "like the baseline"}
TRAINED_ON = {  # by the choice of weights
    "packaged": "trained on ImageNet's photographs",
    "pretrained": "with the weights that timm publishes",
    "embedded": "trained on phantoms",
    "random": "with random weights",
}
SELECTED = ", on which the generator was selected"  # records of earlier versions do not say so
_RENAMED = {"floor": "baseline", "num_floor": "num_baseline"}  # in records of version 0.1


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Read the complete records in ``evaluation/`` of a run's folder, each with its file's name as ``file``."""
    found = ((path, read_evaluation(path)) for path in sorted((folder / "evaluation").glob("*.json")))
    return [{**record, "file": path.name} for path, record in found if record is not None]


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """Return the record in a file, its measures with their current names; None if it is not complete."""
    record = read_json(path)
    measures, notes = record.get("measures"), record.get("notes")
    counted = [entry(record, side, name) for side in ("real", "fake") for name in ("source", "count")]
    named = isinstance(measures, list) and all(isinstance(row, dict) and row.get("name") for row in measures)
    if not named or None in counted:
        return None
    measures = [with_baseline(row) for row in measures or ()]
    return {**record, "measures": measures, "notes": notes if isinstance(notes, list) else []}


def with_baseline(measure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measure with current names; records of version 0.1 call the baseline floor."""
    renamed = {_RENAMED.get(name, name): value for name, value in measure.items()}
    return renamed | ({"better": "baseline"} if renamed.get("better") == "floor" else {})


def evaluation_text(record: Mapping[str, Any]) -> str:
    """Format a record as lines: what was compared, the measures of all images and of each class, notes."""
    real, fake = record["real"], record["fake"]
    lines = [
        f"{fake['count']:,} images of {fake['source']}",
        f"against {real['count']:,} of {real['source']}{SELECTED if real.get('selected') else ''}",
        "",
    ]
    for caption, rows in translation_tables(record):
        lines += [caption, *aligned(rows), ""]
    lines += [*translation_remarks(record), ""] if "translation" in record else []
    lines += table(record["measures"])
    for name, measures in record.get("classes", {}).items():
        lines += ["", f"class {name}", *table(measures)]
    lines += ["", *_networks(record)]
    lines += ["", *(line for text in EXPLANATION for line in textwrap.wrap(text, line_width(100)))]
    return "\n".join([*lines, *(f"note: {note}" for note in record["notes"])])


def _networks(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each extractor that is a network of timm: its name, what it was trained on, its input."""
    for name, extractor in record.get("extractors", {}).items():
        network = extractor.get("backbone")
        if isinstance(network, Mapping) and network.get("model_name"):
            weights = TRAINED_ON.get(network.get("weights", "pretrained"), "with the weights of a file")
            size = network.get("input_size")
            pixels = f", images resized to {size} pixels" if isinstance(size, int) else ""
            yield f"..._{name}: in the features of {network['model_name']}, {weights}{pixels}."


def table(measures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format measures as aligned lines, the names of the columns first."""
    rows = [HEADER, *(_row(with_baseline(measure)) for measure in measures)]
    return aligned(rows)


def _row(measure: Mapping[str, Any]) -> tuple[str, ...]:
    known = math.isfinite(measure["low"]) and math.isfinite(measure["high"])
    return (
        measure["name"],
        _number(measure["value"]),
        f"{_number(measure['low'])} to {_number(measure['high'])}" if known else "-",
        _number(measure["baseline"]),
        _number(measure["ratio"]),
        f"{measure['num_real']:,}",
        f"{measure['num_fake']:,}",
        counts_text(measure.get("num_baseline")),
        BETTER[measure["better"]],
    )


def counts_text(counts: Any) -> str:
    """Format the numbers of images on both sides of a baseline, as one where they are equal; a dash if unknown."""
    return ", ".join(f"{count:,}" for count in dict.fromkeys(counts)) if isinstance(counts, list | tuple) else "-"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"
