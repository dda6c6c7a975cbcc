"""Loss and metric curves of a run as pictures, from its metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from medsynth.files import replacing
from medsynth.report.run_files import Curve, Damage, read_metrics

LOSS_PANELS = {
    "losses": ("train/discriminator_loss", "train/generator_loss"),
    "mean logits": ("train/real_logits", "train/fake_logits"),
    "gradient norms": ("train/discriminator_gradient_norm", "train/generator_gradient_norm"),
}


def draw_curves(metrics_csv: Path, folder: Path) -> list[Path]:
    """Write ``losses.png`` and ``metrics.png`` into ``folder``; returns what was written (no data, no picture)."""
    if not metrics_csv.is_file():
        return []
    curves = read_metrics(metrics_csv, Damage(), growing=False)
    apart = ("_std", "_low", "_high", "/num_real", "/num_fake")  # the ends of intervals are drawn as bands
    metrics = {name: (name,) for name in curves if name.startswith("val/") and not name.endswith(apart)}
    written = []
    for file, panels in {"losses.png": LOSS_PANELS, "metrics.png": metrics}.items():
        panels = {title: [n for n in names if n in curves] for title, names in panels.items()}
        panels = {title: names for title, names in panels.items() if names}
        if panels:
            written.append(_draw(folder / file, panels, curves))
    return written


def _draw(path: Path, panels: Mapping[str, Sequence[str]], curves: Mapping[str, Curve]) -> Path:
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps, values = curves[name]
            axis.plot(
                steps,
                values,
                label=name.split("/")[-1].replace("_", " "),
                linewidth=1,
                marker="." if len(steps) < 40 else None,
            )
            if f"{name}_low" in curves:
                ends = (curves[f"{name}_{end}"][1] for end in ("low", "high"))
                axis.fill_between(steps, *ends, alpha=0.2, linewidth=0)
        axis.set(title=title, xlabel="real images seen")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize="small")
    for axis in list(figure.axes)[len(panels) :]:
        axis.remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path
