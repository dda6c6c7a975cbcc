"""What the page of one run shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medsynth.report.columns import columns_of, interval_at
from medsynth.report.evaluation import in_current_names
from medsynth.report.figures import Figure
from medsynth.report.line_figures import curves, in_words, line_of
from medsynth.report.pictures import Pictures, evenly
from medsynth.report.run_files import entry, finite
from medsynth.report.runs import Run
from medsynth.runs.layout import read_json

TRAINING = {  # title: (columns of metrics.csv and their names, what to look for)
    "Losses": (
        {"train/discriminator_loss": "discriminator", "train/generator_loss": "generator"},
        "Losses of adversaries need not fall; one that runs away or goes to zero is a sign that they are unequal.",
    ),
    "Mean logits": (
        {"train/real_logits": "of real images", "train/fake_logits": "of generated images"},
        "The wider apart, the better the discriminator tells them from each other.",
    ),
    "Gradient norms": (
        {"train/discriminator_gradient_norm": "discriminator", "train/generator_gradient_norm": "generator"},
        "Jumps by orders of magnitude come before a divergence.",
    ),
}
REMARKS = {  # of parts: what to look for
    "ada": "strength: how often an image is changed. overfitting: the mean sign of the real logits, which it follows.",
    "lecam": "The averages are those that the logits of the other side are held to.",
}
SPEED = {
    "Images per second": ("trainer/images_per_second", "Speed of the training steps, validations left out."),
    "Wait for data": (
        "trainer/data_wait",
        "Part of the time, 0 to 1, that training stood still for the next batch: above 0.1, raise data.num_workers.",
    ),
}
_STRIP = 8  # pictures that are always seen; the others by the slider


def run_view(run: Run, budget: int) -> dict[str, Any]:
    """Everything that templates/run.html asks for; ``budget``: bytes for pictures."""
    evaluations = list(_evaluations(run.folder))
    baselines = {f"val/{row['name']}": row.get("baseline") for record in evaluations for row in record["measures"]}
    figures: dict[str, Figure] = {}
    return {
        "run": run,
        "facts": list(_facts(run)),
        "metrics": _metrics(run, baselines),
        "evaluations": evaluations,
        "training": list(_training(run, figures)),
        "measured": list(_measured(run, baselines, figures)),
        "speed": list(_speed(run, figures)),
        "environment": list(_environment(run)),
        "figures": figures,
        **_samples(run, budget),
    }


def _facts(run: Run) -> Iterator[tuple[str, Any]]:
    summary = run.summary
    best, at = (finite(entry(summary, "best", name)) for name in ("value", "images_seen"))
    yield "Status", run.status + (f": {run.reason}" if run.reason else "")
    yield "Trained", summary.get("trained")
    yield "On", summary.get("data")
    yield "Images seen", run.images_seen
    if best is not None:
        ends = interval_at(run, run.objective, at)
        shown = f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})" if ends else ""
        yield "Best", f"{run.objective} {best:.4g}{shown}" + ("" if at is None else f" at {at:,.0f} images")
    if run.seconds is not None:
        speed = finite(summary.get("images_per_second"))
        yield "Time", f"{run.seconds / 60:.1f} min" + (f", {speed:.0f} images/s" if speed else "")
    if run.memory_gib is not None:
        yield "Peak memory", f"{run.memory_gib:.2f} GiB"
    for name in ("generator", "discriminator", "discriminator_trained"):
        count = run.value(f"weights.{name}")
        if count is not None:
            yield f"Weights, {name.replace('_', ' ')}", f"{count:,.0f}"
    yield "Folder", str(run.folder)


def _metrics(run: Run, baselines: Mapping[str, float | None]) -> list[dict[str, Any]]:
    rows = []
    for name in columns_of(run):
        steps, values = run.curves[name]
        counts = [run.value(f"val/num_{side}") for side in ("real", "fake")]
        known = [value for value in values if math.isfinite(value)]
        rows.append(
            {
                "name": name,
                "final": values[-1],
                "interval": interval_at(run, name, steps[-1]),
                "lowest": min(known, default=None),
                "highest": max(known, default=None),
                "baseline": baselines.get(name),
                "counts": counts,
            }
        )
    return rows


def _evaluations(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of ``medsynth evaluate`` that are whole."""
    for path in sorted((folder / "evaluation").glob("*.json")):
        record = read_json(path)
        measured = record.get("measures")
        sides = [entry(record, side, name) for side in ("real", "fake") for name in ("source", "count")]
        if (
            isinstance(measured, list)
            and None not in sides
            and all(entry({"row": row}, "row", "name") for row in measured)
        ):
            yield {"notes": [], **in_current_names(record), "file": path.name}


def _training(run: Run, figures: dict[str, Figure]) -> Iterator[dict[str, str]]:
    for title, (columns, remark) in {**TRAINING, **_of_parts(run)}.items():
        lines = [line_of(run, column, label) for column, label in columns.items() if column in run.curves]
        if lines:
            figures[f"training-{len(figures)}"] = curves(lines, title=title.lower())
            yield {"id": f"training-{len(figures) - 1}", "title": title, "remark": remark, "text": in_words(lines)}


def _of_parts(run: Run) -> dict[str, tuple[dict[str, str], str]]:
    """What penalties and augmentations have recorded of themselves, a figure for each part."""
    known = {column for columns, _ in TRAINING.values() for column in columns} | {"train/real_signs"}
    found: dict[str, tuple[dict[str, str], str]] = {}
    for column in run.curves:
        if column.startswith("train/") and column not in known:
            part, _, value = column.removeprefix("train/").partition("_")
            found.setdefault(part, ({}, REMARKS.get(part, "")))[0][column] = value.replace("_", " ") or "its term"
    return found


def _measured(run: Run, baselines: Mapping[str, float | None], figures: dict[str, Figure]) -> Iterator[dict[str, str]]:
    for name in columns_of(run):
        lines = [line_of(run, name, name)]
        figures[f"metric-{len(figures)}"] = curves(lines, title=name, baseline=baselines.get(name))
        remark = "The band is the 95 % interval at this number of images." if lines[0].band else ""
        yield {"id": f"metric-{len(figures) - 1}", "title": name, "remark": remark, "text": in_words(lines)}


def _speed(run: Run, figures: dict[str, Figure]) -> Iterator[dict[str, str]]:
    for title, (column, remark) in SPEED.items():
        if column in run.curves:
            lines = [line_of(run, column, title.lower())]
            figures[f"speed-{len(figures)}"] = curves(lines, title=title.lower())
            yield {"id": f"speed-{len(figures) - 1}", "title": title, "remark": remark, "text": in_words(lines)}


def _samples(run: Run, budget: int) -> dict[str, Any]:
    """Pictures by images seen, the real ones, and which of them are always shown."""
    seen = {path: step for step, path in sorted(run.samples.items())}
    chosen = evenly(list(seen), budget - (run.real_samples.stat().st_size * 2 if run.real_samples else 0))
    pictures = Pictures([*([run.real_samples] if run.real_samples else []), *chosen], budget)
    frames = [{"step": seen[path], "uri": pictures.get(path)} for path in chosen if pictures.get(path)]
    last = len(frames) - 1
    shown = {round(place * last / (_STRIP - 1)) for place in range(_STRIP)}
    for place, frame in enumerate(frames):
        frame["strip"] = place in shown
    remark = pictures.remark
    if len(chosen) < len(seen):
        remark = (
            f"{len(chosen)} of {len(seen)} points in time are here, evenly chosen, to keep the file small. {remark}"
        )
    return {"frames": frames, "real": pictures.get(run.real_samples), "picture_remark": remark}


def _environment(run: Run) -> Iterator[tuple[str, Any]]:
    recorded = run.summary.get("environment")
    also = {name: run.summary[name] for name in ("medsynth", "torch", "device", "precision") if name in run.summary}
    yield from (dict(_flat(recorded if isinstance(recorded, Mapping) else {})) | also).items()


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value
