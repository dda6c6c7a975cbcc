"""Pictures of a data set: a contact sheet of images, and histograms of intensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsynth.files import replacing
from medsynth.report.points import drawable

Row = tuple[str, np.ndarray]  # name, and images (N, C, H, W) in [-1, 1] with C = 1 or 3, or points
_DOTS = 110  # per inch
_INCHES = (0.8, 1.6)  # smallest and largest height of an image on the sheet; in between, a dot is a pixel
_WINDOW = "tab:orange"


def draw_contact_sheet(path: Path, panels: Mapping[str, Sequence[Row]]) -> None:
    """Write panels side by side, each a title above rows of images; all panels have rows of the same names."""
    drawn = [[drawable(images) for _, images in rows] for rows in panels.values()]
    canvases = [_canvas(rows) for rows in drawn]
    pixels = drawn[0][0].shape[2]
    height = max(len(rows) for rows in panels.values()) * float(np.clip(pixels / _DOTS, *_INCHES))
    widths = [height * canvas.shape[1] / canvas.shape[0] for canvas in canvases]
    figure = Figure(figsize=(sum(widths) + 2, height + 1), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths).flat
    for axis, canvas, (title, rows) in zip(axes, canvases, panels.items(), strict=True):
        axis.imshow((canvas + 1) / 2, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize="medium")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if axis is figure.axes[0]:
            pitch = len(canvas) / len(rows)
            axis.set_yticks([(row + 0.5) * pitch for row in range(len(rows))], [name for name, _ in rows])
            axis.tick_params(length=0)
    _save(figure, path)


def draw_intensities(path: Path, intensity: Mapping[str, Any]) -> None:
    """Write histograms of the intensities as stored in the files, if known, and as the networks see them.

    Each is ``{"low", "high", "counts"}``; ``before`` also has ``unit``, and the window from ``low`` to ``high`` is
    marked in it if it has the same unit.
    """
    shown = [name for name in ("before", "after") if intensity[name]]
    figure = Figure(figsize=(5.5 * len(shown), 3.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(shown), squeeze=False).flat, shown, strict=True):
        _draw_histogram(axis, intensity[name])
        if name == "after":
            axis.set(title="after preprocessing", xlabel="value in [-1, 1]")
            continue
        axis.set(title="in the files", xlabel=intensity["before"]["unit"])
        if intensity["unit"] == intensity["before"]["unit"]:
            _mark(axis, intensity["low"], intensity["high"])
    _save(figure, path)


def _draw_histogram(axis: Axes, histogram: Mapping[str, Any]) -> None:
    counts = np.asarray(histogram["counts"], dtype=np.float64)
    edges = np.linspace(histogram["low"], histogram["high"], len(counts) + 1)
    axis.stairs(100 * counts / counts.sum(), edges, fill=True)
    axis.set(ylabel="pixels in %", yscale="log")
    axis.grid(alpha=0.3)


def _mark(axis: Axes, low: float, high: float) -> None:
    axis.axvspan(low, high, color=_WINDOW, alpha=0.15, label=f"{low:g} to {high:g} become -1 to 1")
    for value in (low, high):
        axis.axvline(value, color=_WINDOW, linewidth=1)
    axis.legend(fontsize="small")


def _canvas(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrange rows of images on one white picture (H, W, C), with gaps between the images."""
    channels, height, width = rows[0].shape[1:]
    gap = max(2, height // 24)
    columns = max(1, *map(len, rows))
    canvas = np.ones((len(rows) * (height + gap), columns * (width + gap), channels))
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = row * (height + gap) + gap // 2, column * (width + gap) + gap // 2
            canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DOTS, format="png", bbox_inches="tight")
