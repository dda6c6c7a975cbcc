"""The end of a run: one machine-readable file, and the same for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary as a few lines for the terminal."""
    files = summary["files"]
    metrics = summary["metrics"]
    best = summary["best"]
    seconds = summary["seconds"]
    duration = f"{seconds / 60:.1f} min" if seconds > 90 else f"{seconds:.0f} s"
    numbers = ", ".join(_shown(name, metrics) for name in metrics if not _is_apart(name))
    lines = [
        f"Trained    {summary['trained']}",
        f"on         {summary['data']}",
        f"for        {summary['images_seen']:,} images in {duration} "
        f"({summary['images_per_second']:.0f} images/s, {summary['precision']}, "
        f"peak memory {summary['peak_memory_gib']:.1f} GiB)",
    ]
    if metrics:
        generated, real = int(metrics["val/num_fake"]), int(metrics["val/num_real"])
        objective = best["objective"].removeprefix("val/")
        lines += [
            f"metrics    {numbers} (N = {generated:,} generated against {real:,} real images)",
            f"best       {objective} {best['value']:.4g} at {best['images_seen']:,} images",
        ]
    labels = {
        "samples": "samples",
        "curves": "curves",
        "checkpoint": "checkpoint",
        "generator": "generator",
        "log": "logs",
    }
    lines += [f"{label:10} {files[key]}" for key, label in labels.items() if files.get(key)]
    lines.append(f"next       {summary['next']}")
    return "\n".join(lines)


def _shown(name: str, metrics: Mapping[str, float]) -> str:
    """Name and value, with the 95 % interval where there is one."""
    text = f"{name.removeprefix('val/')} {metrics[name]:.4g}"
    if f"{name}_low" in metrics:
        text += f" ({metrics[f'{name}_low']:.4g} to {metrics[f'{name}_high']:.4g})"
    return text


def _is_apart(name: str) -> bool:
    """Whether it is shown elsewhere: counts, and the ends of intervals."""
    return name.startswith("val/num_") or name.endswith(("_low", "_high"))
