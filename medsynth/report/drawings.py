"""Figures for a paper as SVG and PDF, and as PNG for the page, each beside its numbers as CSV."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from medsynth.files import replacing
from medsynth.report.points import drawable

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of each table of each font in a PDF
COLUMN, PAGE = 3.4, 7.0  # inches: one column of a journal, and both
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.hashsalt": "medsynth",  # the same numbers give the same file
    "pdf.fonttype": 42,  # letters as letters, which journals ask for
}
_REAL, _FAKE = "#0072B2", "#D55E00"
_DOTS = 200  # per inch, of the page's pictures
_FOR_A_PAPER = ("svg", "pdf")
_GAP = 2  # pixels between images

Table = Sequence[Mapping[str, object]]
Row = tuple[str, np.ndarray]


def write_table(path: Path, rows: Table) -> None:
    """Write rows of equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["empty"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _shown(value) for name, value in row.items()} for row in rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def draw_images(folder: Path, name: str, rows: Sequence[Row], *, columns: Sequence[str] = ()) -> list[str]:
    """Draw rows of images, each with its name on the left, and write ``name.svg``, ``.pdf`` and ``.png``.

    Args:
        folder: of the files.
        name: of the files, without ending.
        rows: the name of each row, and its images (N, C, H, W) in [-1, 1].
        columns: names above the columns.
    """
    lines = [_line(images) for _, images in rows]
    canvas = np.ones((sum(len(line) + _GAP for line in lines) - _GAP, max(line.shape[1] for line in lines), 3))
    top, places = 0, []
    for line in lines:
        canvas[top : top + len(line), : line.shape[1]] = line
        places.append(top + len(line) / 2)
        top += len(line) + _GAP
    with rc_context(_STYLE):
        figure = Figure(figsize=(PAGE, 0.35 + (PAGE - 0.9) * len(canvas) / canvas.shape[1]), layout="constrained")
        axis = figure.subplots()
        axis.imshow(canvas, interpolation="nearest")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        axis.set_yticks(places, [_plain(title) for title, _ in rows])
        width = rows[0][1].shape[3] + _GAP
        axis.set_xticks([(place + 0.5) * width for place in range(len(columns))], list(columns))
        axis.xaxis.tick_top()
        return _save(figure, folder, name, picture=True)


def draw_points(folder: Path, name: str, table: Table, axes: Sequence[str]) -> list[str]:
    """Draw real and generated images as points (columns ``set``, ``x``, ``y``)."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(COLUMN, COLUMN * 0.85), layout="constrained")
        axis = figure.subplots()
        for kind, color, marker in (("real", _REAL, "o"), ("generated", _FAKE, "x")):
            points = [(row["x"], row["y"]) for row in table if row["set"] == kind]
            axis.scatter(
                *zip(*points, strict=True), s=7, c=color, marker=marker, alpha=0.55, linewidths=0.6, label=kind
            )
        axis.set(xlabel=axes[0], ylabel=axes[1], xticks=[], yticks=[])
        axis.legend(frameon=False, loc="best")
        return _save(figure, folder, name)


def draw_lines(
    folder: Path, name: str, table: Table, *, x: str, labels: tuple[str, str], steps: bool = False
) -> list[str]:
    """Draw the columns ``real`` and ``generated`` over the column ``x``; ``steps``: as a histogram."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(COLUMN, COLUMN * 0.7), layout="constrained")
        axis = figure.subplots()
        places = [_number(row[x]) for row in table]
        for kind, color, dash in (("real", _REAL, "-"), ("generated", _FAKE, "--")):
            values = [_number(row[kind]) for row in table]
            style: dict[str, Any] = {"drawstyle": "steps-post"} if steps else {}
            axis.plot(places, values, dash, color=color, linewidth=1.2, label=kind, **style)
        axis.set(xlabel=_plain(labels[0]), ylabel=_plain(labels[1]))
        if steps:
            axis.set_yscale("log", nonpositive="clip")
        axis.legend(frameon=False)
        return _save(figure, folder, name)


def draw_classes(folder: Path, name: str, table: Table, measures: Sequence[str]) -> list[str]:
    """Draw measures by class with their 95 % intervals."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(PAGE if len(table) > 6 else COLUMN, COLUMN * 0.75), layout="constrained")
        axis = figure.subplots()
        for number, (measure, color) in enumerate(zip(measures, (_REAL, _FAKE), strict=False)):
            values = [_number(row[measure]) for row in table]
            ends = [[_number(row[f"{measure}_{end}"]) for row in table] for end in ("low", "high")]
            below = [max(0.0, value - low) for value, low in zip(values, ends[0], strict=True)]
            above = [max(0.0, high - value) for value, high in zip(values, ends[1], strict=True)]
            places = [place + 0.16 * (2 * number - 1) for place in range(len(table))]
            axis.errorbar(places, values, [below, above], fmt="os"[number], color=color, capsize=2, ms=4, label=measure)
        axis.set(ylim=(0, 1.02), ylabel="share of images")
        axis.set_xticks(range(len(table)), [_plain(str(row["class"])) for row in table], rotation=30, ha="right")
        axis.legend(frameon=False)
        return _save(figure, folder, name)


def _line(images: np.ndarray) -> np.ndarray:
    """Return images side by side, (H, W, 3) in [0, 1]."""
    images = (np.clip(drawable(images), -1, 1) + 1) / 2
    colored = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images[:, :3]
    if colored.shape[1] == 2:
        colored = np.concatenate([colored, colored[:, :1]], axis=1)
    line = np.ones((colored.shape[2], len(colored) * (colored.shape[3] + _GAP) - _GAP, 3))
    for place, image in enumerate(colored):
        start = place * (colored.shape[3] + _GAP)
        line[:, start : start + colored.shape[3]] = image.transpose(1, 2, 0)
    return line


def _save(figure: Figure, folder: Path, name: str, *, picture: bool = False) -> list[str]:
    """Write the figure; return the endings of the files."""
    endings = [*_FOR_A_PAPER, *(["png"] if picture else [])]
    for ending in endings:
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
        with replacing(folder / f"{name}.{ending}") as temporary:
            whole = "tight" if picture else None  # the layout leaves margins around images of fixed proportions
            figure.savefig(temporary, format=ending, dpi=_DOTS, metadata=metadata, bbox_inches=whole)
    return endings


def _plain(text: str) -> str:
    """Return the text for matplotlib, which reads formulas between dollar signs."""
    return text.replace("$", r"\$")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _shown(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
