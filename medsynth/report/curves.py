"""Pictures of a run's loss and metric curves, drawn from its metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from medsynth.files import replacing
from medsynth.report.columns import PANELS, metric_names
from medsynth.report.run_files import Curve, Damage, read_metrics


def draw_curves(metrics_csv: Path, folder: Path) -> list[Path]:
    """Write ``losses.png`` and ``metrics.png`` into ``folder``, each if there are values for it.

    Returns:
        The files that were written.
    """
    if not metrics_csv.is_file():
        return []
    curves = read_metrics(metrics_csv, Damage(), growing=False)
    training = {panel.title.lower(): list(panel.labels) for panel in PANELS}
    metrics = {name: [name] for name in metric_names(curves)}
    written = []
    for file, panels in {"losses.png": training, "metrics.png": metrics}.items():
        logged = {title: [name for name in names if name in curves] for title, names in panels.items()}
        logged = {title: names for title, names in logged.items() if names}
        if logged:
            written.append(_draw(folder / file, logged, curves))
    return written


def _draw(path: Path, panels: Mapping[str, Sequence[str]], curves: Mapping[str, Curve]) -> Path:
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps, values = curves[name]
            label = name.split("/")[-1].replace("_", " ")
            axis.plot(steps, values, label=label, linewidth=1, marker="." if len(steps) < 40 else None)
            low, high = (dict(zip(*curves.get(f"{name}_{end}", ([], [])), strict=True)) for end in ("low", "high"))
            known = [step for step in steps if step in low and step in high]  # a damaged file may lack some
            if known:
                ends = [low[step] for step in known], [high[step] for step in known]
                axis.fill_between(known, *ends, alpha=0.2, linewidth=0)
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
