"""The figures of ``report/`` as charts of the page, drawn from their tables."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from medsynth.report.figure_files import FigureFiles
from medsynth.report.figures import COLORS, SYMBOLS, Figure, number, plain, short
from medsynth.report.pictures import Pictures

_SIDES = {"real": (COLORS[0], "solid", "circle"), "generated": (COLORS[1], "dash", "x")}
_SAID = {"remark": "", "text": ""}  # the caption of the figure stands below its chart
_MOST_POINTS = 2000  # of a chart: a file that a stranger wrote may have more


def figure_views(
    figures: Sequence[FigureFiles], pictures: Pictures, drawn: dict[str, Figure], page: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of each figure: a picture or a chart, its caption, and links to its files.

    Args:
        figures: of the run.
        pictures: which hold their PNG files.
        drawn: charts by their ids, to which those of ``figures`` are added.
        page: folder of the page, which links are relative to; None: it is served, and links lead nowhere.
    """
    for figure in figures:
        chart = _chart(figure)
        uri = pictures.get(figure.picture)
        if chart is not None:
            drawn[f"figure-{figure.name}"] = chart
        if chart is None and uri is None:
            continue
        yield {
            "title": figure.title,
            "caption": figure.caption,
            "picture": uri,
            "chart": None if chart is None else {"id": f"figure-{figure.name}", "title": figure.title, **_SAID},
            "links": [(ending.upper(), _link(figure, ending, page)) for ending in figure.endings if page is not None],
        }


def _link(figure: FigureFiles, ending: str, page: Path) -> str:
    """Return the relative address of a file, whose special characters are escaped: it names no other scheme."""
    path = os.path.relpath((figure.folder / f"{figure.name}.{ending}").resolve(), page.resolve())
    return quote(Path(path).as_posix())


def _chart(figure: FigureFiles) -> Figure | None:
    table = figure.table[:_MOST_POINTS]
    if not table:
        return None
    if figure.name.startswith("embedding"):
        return _points(table)
    if figure.name == "classes":
        return _classes(table)
    if figure.name in ("intensities", "spectrum"):
        return _lines(table, figure.name)
    return None


def _points(table: Sequence[Mapping[str, str]]) -> Figure:
    chart = go.Figure()
    for kind, (color, _, symbol) in _SIDES.items():
        rows = [row for row in table if row.get("set") == kind]
        chart.add_scatter(
            x=[_number(row, "x") for row in rows],
            y=[_number(row, "y") for row in rows],
            text=[short(row.get("class") or kind) for row in rows],
            name=kind,
            mode="markers",
            marker={"color": color, "size": 5, "symbol": symbol, "opacity": 0.6},
            hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        )
    hidden = {"showticklabels": False}
    chart.update_layout(xaxis=hidden, yaxis=hidden, showlegend=True)
    return plain(chart)


def _lines(table: Sequence[Mapping[str, str]], name: str) -> Figure:
    column = "from" if name == "intensities" else "cycles"
    chart = go.Figure()
    for kind, (color, dash, _) in _SIDES.items():
        chart.add_scatter(
            x=[_number(row, column) for row in table],
            y=[_number(row, kind) for row in table],
            name=kind,
            mode="lines",
            line={"color": color, "dash": dash, "width": 1.6, "shape": "hv" if name == "intensities" else "linear"},
        )
    if name == "intensities":
        titles, scale = ("intensity", "share of pixels"), {"type": "log", "exponentformat": "power", "dtick": 1}
    else:
        titles, scale = ("cycles per image", "power in dB"), {}
    chart.update_layout(xaxis_title=titles[0], yaxis={**scale, "title": titles[1]}, showlegend=True)
    return plain(chart)


def _classes(table: Sequence[Mapping[str, str]]) -> Figure:
    chart = go.Figure()
    for place, measure in enumerate(("precision", "recall")):
        values, low, high = ([_number(row, f"{measure}{end}") for row in table] for end in ("", "_low", "_high"))
        above = [None if v is None or h is None else number(h - v) for v, h in zip(values, high, strict=True)]
        below = [None if v is None or e is None else number(v - e) for v, e in zip(values, low, strict=True)]
        chart.add_scatter(
            x=[row_number + 0.12 * (2 * place - 1) for row_number in range(len(table))],
            y=values,
            error_y={"type": "data", "array": above, "arrayminus": below, "width": 4, "color": COLORS[place]},
            name=measure,
            mode="markers",
            marker={"color": COLORS[place], "size": 8, "symbol": SYMBOLS[place]},
        )
    ticks = {"tickvals": list(range(len(table))), "ticktext": [short(row.get("class") or "") for row in table]}
    chart.update_layout(xaxis={**ticks, "showgrid": False}, yaxis={"range": [0, 1.02]}, showlegend=True)
    return plain(chart)


def _number(row: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(row.get(name) or "")
    except ValueError:
        return None
    return number(value) if math.isfinite(value) else None
