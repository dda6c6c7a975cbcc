"""Content of the page of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medsynth.report.columns import (
    DATA_WAIT,
    IMAGES_PER_SECOND,
    NOT_SHOWN,
    PANELS,
    Panel,
    best_step,
    interval_at,
    metrics_of,
)
from medsynth.report.evaluation import EXPLANATION
from medsynth.report.figure_charts import figure_views
from medsynth.report.figures import Figure
from medsynth.report.findings import finding_pictures
from medsynth.report.line_figures import curves, description, line_of
from medsynth.report.pictures import Pictures, evenly
from medsynth.report.run import Run
from medsynth.report.run_files import entry, finite, text
from medsynth.report.run_measures import baselines, headline, tables
from medsynth.report.run_verdict import answers, sentences
from medsynth.runs.placement import shown
from medsynth.runs.status import KILLED, STOPPED

SPEED = (
    Panel("Images per second", {IMAGES_PER_SECOND: "images per second"}, "Speed of training, without validations."),
    Panel(
        "Wait for data",
        {DATA_WAIT: "wait for data"},
        "Fraction of the time, 0 to 1, in which training waited for the next batch: above 0.1, raise data.num_workers.",
    ),
)
_GROUPS = (
    "penalty",
    "generator_penalty",
    "reconstruction",
    "augment",
)  # of the configuration, whose components may record values of their own
_STRIP = 8  # pictures that are always visible; the others can be reached by the slider


def run_view(run: Run, budget: int, page: Path | None = None) -> dict[str, Any]:
    """Return all values of templates/run.html.

    Args:
        run: the run.
        budget: bytes for pictures.
        page: folder of the page, from which it links files of the run; None: it is served, without these.
    """
    of_real = baselines(run)
    measured = tables(run, of_real)
    figures: dict[str, Figure] = {}
    return {
        "run": run,
        "sentences": sentences(run, next(iter(headline(measured, run.objective)), None)),
        "cautions": _cautions(run),
        "answers": answers(run),
        "headline": headline(measured, run.objective),
        "measures": measured,
        "explanation": EXPLANATION,
        "commands": _commands(run),
        "properties": list(_properties(run)),
        "training": list(_panels(run, [*PANELS, *_component_panels(run)], figures)),
        "measured": list(_measured(run, of_real, figures)),
        "speed": list(_panels(run, SPEED, figures)),
        "environment": list(_environment(run)),
        "figures": figures,
        **_samples(run, budget, figures, page),
    }


def _cautions(run: Run) -> list[str]:
    """Return what the data say of themselves, and which files are damaged."""
    cautions = run.summary.get("data_cautions")
    return [*(map(str, cautions) if isinstance(cautions, list) else ()), *run.damaged]


def _commands(run: Run) -> list[tuple[str, str]]:
    """Return what to type next, each with what it does."""
    folder = shown(run.folder)
    return [
        *([("Resume the training", f"python train.py resume={folder}")] if run.status in (STOPPED, KILLED) else []),
        ("Generate images", f"medsynth generate run={folder} num_samples=64 out=generated"),
        ("Ask all three questions", f"medsynth verdict run={folder}"),
        *([("Weights & Biases", place)] if (place := text(run.summary.get("wandb"))) else []),
    ]


def _properties(run: Run) -> Iterator[tuple[str, Any]]:
    summary = run.summary
    best, at = (finite(entry(summary, "best", name)) for name in ("value", "images_seen"))
    yield "Status", run.status + (f": {run.reason}" if run.reason else "")
    yield "Trained", summary.get("trained")
    yield "Data", summary.get("data")
    yield "Images seen", run.images_seen
    if best is not None:
        ends = interval_at(run, run.objective or "", at)
        interval = f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})" if ends else ""
        when = "" if at is None else f" at {at:,.0f} images"
        yield "Best", f"{run.objective} {best:.4g}{interval}{when}, selected on these validation images"
    if run.seconds is not None:
        speed = finite(summary.get("images_per_second"))
        yield "Time", f"{run.seconds / 60:.1f} min" + (f", {speed:.0f} images/s" if speed else "")
    if run.memory_gib is not None:
        yield "Peak memory", f"{run.memory_gib:.2f} GiB"
    parameters = summary.get("parameters")
    for name in parameters if isinstance(parameters, Mapping) else ():
        count = run.value(f"parameters.{name}")
        if count is not None:
            yield f"Parameters, {name.replace('_', ' ')}", f"{count:,.0f}"
    yield "Folder", str(run.folder)


def _panels(run: Run, panels: Sequence[Panel], figures: dict[str, Figure]) -> Iterator[dict[str, str]]:
    for panel in panels:
        lines = [line_of(run, column, label) for column, label in panel.labels.items() if column in run.curves]
        if lines:
            key = f"panel-{len(figures)}"
            figures[key] = curves(lines, title=panel.title.lower())
            yield {"id": key, "title": panel.title, "remark": panel.remark, "text": description(lines)}


def _component_panels(run: Run) -> list[Panel]:
    """Return a panel for each penalty and augmentation that recorded values of its own."""
    known = {column for panel in PANELS for column in panel.labels} | set(NOT_SHOWN)
    components = _components(run)
    labels: dict[str, dict[str, str]] = {}
    for column in run.curves:
        if column.startswith("train/") and column not in known:
            component, value = _split(column.removeprefix("train/"), components)
            labels.setdefault(component, {})[column] = value.replace("_", " ") or "penalty"
    return [Panel(name, columns, _remark(components.get(name))) for name, columns in labels.items()]


def _components(run: Run) -> dict[str, str]:
    """Return the penalties and augmentations of the configuration: "r1" -> "penalty.r1"."""
    keys = [key.split(".") for key in run.options if key.startswith(tuple(f"{group}." for group in _GROUPS))]
    return {name: f"{group}.{name}" for group, name, *_ in keys}


def _split(column: str, components: Mapping[str, str]) -> tuple[str, str]:
    """Split ``ada_strength`` into component and value, by the components of the configuration if it was written."""
    matches = [name for name in components if column == name or column.startswith(f"{name}_")]
    name = max(matches, key=len, default=column.partition("_")[0])
    return name, column.removeprefix(name).removeprefix("_")


def _remark(component: str | None) -> str:
    return f"Recorded by {component}; its options are listed under Configuration." if component else ""


def _measured(run: Run, of_real: Mapping[str, float | None], figures: dict[str, Figure]) -> Iterator[dict[str, str]]:
    for name in metrics_of(run):
        lines, key = [line_of(run, name, name)], f"metric-{len(figures)}"
        figures[key] = curves(lines, title=name, baseline=of_real.get(name))
        remark = "The band is the 95 % interval at this number of images." if lines[0].band else ""
        yield {"id": key, "title": name, "remark": remark, "text": description(lines)}


def _samples(run: Run, budget: int, figures: dict[str, Figure], page: Path | None) -> dict[str, Any]:
    """Return pictures by images seen, that of real images, which of them are always visible, and the figures."""
    seen = {path: step for step, path in sorted(run.samples.items())}
    shown = finding_pictures(run.summary, run.folder)
    of_figures = [figure.picture for figure in run.figures]
    still = [
        path for path in (run.real_samples, run.reconstructed, run.translated, *shown, *of_figures) if path is not None
    ]
    best = run.samples.get(best_step(run) or -1, next(reversed(seen), None))
    chosen = evenly(list(seen), budget - 2 * sum(path.stat().st_size for path in still))
    chosen += [best] if best is not None and best not in chosen else []
    chosen.sort(key=seen.__getitem__)
    pictures = Pictures([*still, *chosen], budget)
    frames: list[dict[str, Any]] = [
        {"step": seen[path], "uri": pictures.get(path)} for path in chosen if pictures.get(path)
    ]
    last = len(frames) - 1
    visible = {round(place * last / (_STRIP - 1)) for place in range(_STRIP)}
    for place, frame in enumerate(frames):
        frame["strip"] = place in visible
    remark = pictures.remark
    if len(chosen) < len(seen):
        remark = f"To keep the file small, {len(chosen)} of {len(seen)} points in time are shown. {remark}"
    return {
        "frames": frames,
        "best": None if best is None else {"step": seen[best], "uri": pictures.get(best)},
        "real": pictures.get(run.real_samples),
        "paper": list(figure_views(run.figures, pictures, figures, page)),
        "reconstructed": pictures.get(run.reconstructed),
        "translated": pictures.get(run.translated),
        "picture_remark": remark,
        "findings": [
            {"text": text, "picture": pictures.get(path)} for text, path in zip(run.findings, shown, strict=True)
        ],
    }


def _environment(run: Run) -> Iterator[tuple[str, Any]]:
    recorded = run.summary.get("environment")
    others = {name: run.summary[name] for name in ("medsynth", "torch", "device", "precision") if name in run.summary}
    yield from (dict(_flat(recorded if isinstance(recorded, Mapping) else {})) | others).items()


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value
