"""Figures of effects, interactions and Pareto fronts, as data and layout for plotly.js in the browser.

Colors are those of Okabe and Ito (Color Universal Design, 2008); dashes and markers differ, too. The page's script sets
fonts, grids and backgrounds, since these depend on the reader's light or dark theme.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")

Figure = dict[str, Any]


def effect(
    values: Mapping[str, Sequence[tuple[str, float]]], means: Mapping[str, tuple[float, float | None]], *, title: str
) -> Figure:
    """Draw a dot for each run for each value of a factor, and beside them the mean with the spread between seeds.

    Args:
        values: value of the factor -> (name of a run, value of the metric).
        means: value of the factor -> (mean, spread or None).
        title: title of the vertical axis.
    """
    figure = go.Figure()
    for index, (value, dots) in enumerate(values.items()):
        color, count = COLORS[index % len(COLORS)], len(dots)
        offsets = [index + 0.12 * (place / max(count - 1, 1) - 0.5) for place in range(count)]
        figure.add_scatter(
            x=offsets,
            y=[number(y) for _, y in dots],
            text=[name for name, _ in dots],
            name=value,
            mode="markers",
            marker={"color": color, "size": 7, "symbol": SYMBOLS[index % len(SYMBOLS)], "opacity": 0.75},
        )
        if value in means:
            mean, spread = means[value]
            ends = [number(spread or 0)]
            bar = {"type": "data", "array": ends, "color": color, "width": 6}
            marker = {"symbol": "line-ew-open", "size": 18, "color": color, "line": {"width": 2.5}}
            figure.add_scatter(
                x=[index + 0.22], y=[number(mean)], error_y=bar, mode="markers", marker=marker, name=f"mean of {value}"
            )
    ticks = {"tickvals": list(range(len(values))), "ticktext": [short(v) for v in values]}
    figure.update_layout(
        xaxis={**ticks, "range": [-0.5, len(values) - 0.3], "showgrid": False}, yaxis_title=title, showlegend=False
    )
    return plain(figure)


def interaction(
    rows: Mapping[str, Sequence[float | None]], columns: Sequence[str], *, title: str, label: str
) -> Figure:
    """Draw means: a line for each value of one factor (``rows``) over the values of another (``columns``)."""
    figure = go.Figure()
    for index, (row, cells) in enumerate(rows.items()):
        known = [(place, number(mean)) for place, mean in enumerate(cells) if mean is not None]
        figure.add_scatter(
            x=[place for place, _ in known],
            y=[mean for _, mean in known],
            name=short(row),
            mode="lines+markers",
            line={"color": COLORS[index % len(COLORS)], "dash": DASHES[index % len(DASHES)], "width": 1.6},
            marker={"size": 8, "symbol": SYMBOLS[index % len(SYMBOLS)]},
        )
    ticks = {"tickvals": list(range(len(columns))), "ticktext": [short(column) for column in columns]}
    figure.update_layout(
        xaxis={**ticks, "title": label, "range": [-0.4, len(columns) - 0.6]}, yaxis_title=title, showlegend=True
    )
    return plain(figure)


@dataclass(frozen=True)
class Point:
    """A run in the plane of cost and quality."""

    name: str
    cost: float
    value: float
    on_front: bool


def front(points: Sequence[Point], *, cost: str, title: str) -> Figure:
    """Draw quality against cost; runs on the Pareto front are joined by a line."""
    figure = go.Figure()
    for on_front, name in ((False, "other runs"), (True, "on the Pareto front")):
        chosen = sorted((point for point in points if point.on_front is on_front), key=lambda point: point.cost)
        figure.add_scatter(
            x=[number(point.cost) for point in chosen],
            y=[number(point.value) for point in chosen],
            text=[point.name for point in chosen],
            name=name,
            mode="lines+markers" if on_front else "markers",
            line={"color": COLORS[1], "dash": "dot", "width": 1.4},
            marker={
                "symbol": "diamond" if on_front else "circle-open",
                "size": 11 if on_front else 8,
                "color": COLORS[1] if on_front else COLORS[0],
            },
            hovertemplate=f"%{{text}}<br>{cost}: %{{x}}<br>{title}: %{{y}}<extra></extra>",
        )
    figure.update_layout(xaxis_title=cost, yaxis_title=title, showlegend=True)
    return plain(figure)


def over_numbers(points: Sequence[tuple[str, float, float]], *, label: str, title: str) -> Figure:
    """Draw a dot for each run (name, value of an option, metric) over an option with many values.

    The axis is logarithmic where the option is positive and spans two powers of ten.
    """
    x = [value for _, value, _ in points]
    figure = go.Figure()
    figure.add_scatter(
        x=[number(value) for value in x],
        y=[number(value) for _, _, value in points],
        text=[name for name, _, _ in points],
        mode="markers",
        marker={"color": COLORS[0], "size": 8, "opacity": 0.75},
        hovertemplate=f"%{{text}}<br>{short(label)}: %{{x}}<br>{short(title)}: %{{y}}<extra></extra>",
    )
    wide = min(x) > 0 and max(x) / min(x) >= 100
    figure.update_layout(xaxis={"title": label, **_axis(wide)}, yaxis_title=title)
    return plain(figure)


def _axis(logarithmic: bool) -> dict[str, Any]:
    return {"type": "log", "exponentformat": "power", "dtick": 1} if logarithmic else {"type": "linear"}


def optuna_figure(figure: go.Figure) -> Figure:
    """Convert a figure of Optuna: no title, which stands above it, and no sizes and background: the page decides."""
    figure.update_layout(title=None, width=None, height=None, plot_bgcolor=None)
    figure.for_each_xaxis(lambda axis: axis.update(exponentformat="power", dtick=1) if axis.type == "log" else None)
    return plain(figure)


def number(value: float) -> float:
    """Round to five significant digits, more than a reader can see, to save two thirds of the bytes."""
    return float(f"{value:.5g}")


def short(text: str, length: int = 22) -> str:
    """Shorten a name in its middle, and escape it, since plotly interprets a few HTML tags."""
    text = text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 + 1 :]}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(figure: go.Figure) -> Figure:
    """Convert to data and layout, without plotly's template, whose colors do not fit every theme."""
    margin = {"l": 60, "r": 12, "t": 12, "b": 48}
    figure.update_layout(template=go.layout.Template(), margin=margin, hovermode="closest")
    content = json.loads(figure.to_json() or "{}")
    content["layout"].pop("template", None)
    return {"data": content["data"], "layout": content["layout"]}
