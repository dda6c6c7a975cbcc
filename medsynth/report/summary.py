"""The summary of a run as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsynth.report.columns import NUM_FAKE, NUM_REAL, without_intervals
from medsynth.report.findings import finding_texts

_FILES = {
    **{name: name for name in ("samples", "curves", "checkpoint", "generator")},
    **{"log": "logs", "figures": "figures", "report": "report"},  # the page stands last, beside the next command
}


def summary_text(summary: Mapping[str, Any]) -> str:
    """Format the content of summary.json: what was trained, on which data, results, files, and the next command."""
    try:
        return _summary_text(summary)
    except (KeyError, TypeError, ValueError, AttributeError):  # of a run that completed earlier
        return "Its summary.json is damaged: medsynth report shows what is whole."


def _summary_text(summary: Mapping[str, Any]) -> str:
    files, metrics, best = summary["files"], summary["metrics"], summary["best"]
    seconds = summary["seconds"]
    duration = f"{seconds / 60:.1f} min" if seconds > 90 else f"{seconds:.0f} s"
    lines = [
        f"Trained    {summary['trained']}",
        f"on         {summary['data']}",
        f"for        {summary['images_seen']:,} images in {duration} "
        f"({summary['images_per_second']:.0f} images/s, {summary['precision']}, "
        f"peak memory {summary['peak_memory_gib']:.1f} GiB)",
    ]
    if metrics:
        values = ", ".join(_with_interval(name, metrics) for name in without_intervals(metrics))
        generated, real = int(metrics[NUM_FAKE]), int(metrics[NUM_REAL])
        objective = best["objective"].removeprefix("val/")
        lines += [
            f"metrics    {values} (N = {generated:,} generated and {real:,} real images)",
            f"best       {objective} {best['value']:.4g} at {best['images_seen']:,} images, "
            "selected on these real images",
        ]
    if summary.get("copied"):
        less = 1 - best["value"] / summary["copied"]
        than = f"{less:.0%} less" if less >= 0 else f"{-less:.0%} more"
        lines.append(f"baseline   the source copied unchanged has {summary['copied']:.4g}: the best is {than}")
    lines += [f"finding    {text}" for text in finding_texts(summary)]
    lines += [f"{label:10} {files[key]}" for key, label in _FILES.items() if files.get(key)]
    if summary.get("wandb"):
        lines.append(f"W&B        {summary['wandb']}")
    lines.append(f"next       {summary['next']}")
    if summary.get("test"):
        lines.append(f"           {summary['test']} (the best on test images that it was not selected on)")
    return "\n".join(lines)


def _with_interval(name: str, metrics: Mapping[str, float]) -> str:
    text = f"{name.removeprefix('val/')} {metrics[name]:.4g}"
    if f"{name}_low" in metrics:
        text += f" ({metrics[f'{name}_low']:.4g} to {metrics[f'{name}_high']:.4g})"
    return text
