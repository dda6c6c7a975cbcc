"""Parallel coordinates: a line for each run across its options, its duration and its result.

These are lines on common axes instead of plotly's ``parcoords``, which needs WebGL and prints as an empty box without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from medsynth.report.figures import COLORS, Figure, number, plain, short

_LOWEST_OPACITY = 0.4  # of the worst run's line; the best has 1
_LABELS = 9  # on an axis; more would overlap


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: title of the axis.
        places: position of each run on it, 0 to 1; NaN: not known.
        ticks: (position, label).
    """

    label: str
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def choice_axis(label: str, values: Sequence[str], of_runs: Sequence[str]) -> Axis:
    """Return the axis of a factor, with its values at equal distances."""
    last = max(len(values) - 1, 1)
    places = {value: (place / last if len(values) > 1 else 0.5) for place, value in enumerate(values)}
    every = math.ceil(len(values) / _LABELS)
    ticks = [(places[value], short(value, 16)) for value in values[::every]]
    return Axis(label, [places.get(value, math.nan) for value in of_runs], ticks)


def number_axis(label: str, of_runs: Sequence[float | None]) -> Axis:
    """Return the axis of a number, from its smallest value to its largest."""
    known = [value for value in of_runs if value is not None and math.isfinite(value)]
    low, high = min(known), max(known)
    if high == low:
        return Axis(label, [0.5 if value in known else math.nan for value in of_runs], [(0.5, f"{low:.3g}")])
    places = [(value - low) / (high - low) if value in known else math.nan for value in of_runs]
    ticks = [(part, f"{low + part * (high - low):.3g}") for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return Axis(label, places, ticks)


def draw_parallel(names: Sequence[str], axes: Sequence[Axis], *, higher: bool = False) -> Figure:
    """Draw a line for each run, stronger for better runs: those low on the last axis, or high if ``higher``."""
    figure = go.Figure()
    badness = [1 - place if higher else place for place in axes[-1].places]
    order = sorted(range(len(names)), key=lambda run: -badness[run])
    for run in order:  # the best is drawn last, above the others
        best = run == order[-1]
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[None if math.isnan(axis.places[run]) else number(axis.places[run]) for axis in axes],
            name=short(names[run], 60),
            mode="lines+markers",
            opacity=number(1 - (1 - _LOWEST_OPACITY) * badness[run]),
            line={"color": COLORS[1] if best else COLORS[0], "width": 3 if best else 1.5},
            marker={"size": 4},
            hovertemplate="%{fullData.name}<extra></extra>",
        )
    last = len(axes) - 1
    for place, axis in enumerate(axes):
        line = {"width": 1, "color": "#8C8C8C"}
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line=line, layer="below")
        for y, label in axis.ticks:
            figure.add_annotation(
                x=place,
                y=y,
                text=label,
                showarrow=False,
                xanchor="left" if place == last else "right",
                font={"size": 11},
                xshift=6 if place == last else -6,
            )
    labels = {"tickvals": list(range(len(axes))), "ticktext": [short(axis.label) for axis in axes]}
    figure.update_layout(
        xaxis={**labels, "showgrid": False, "side": "top", "range": [-0.45, last + 0.3], "fixedrange": True},
        yaxis={"visible": False, "range": [-0.05, 1.05], "fixedrange": True},
        showlegend=False,
    )
    content = plain(figure)
    longest = max(len(label) for _, label in axes[0].ticks)  # its labels are to the left of all axes
    content["layout"]["margin"] = {"l": 8 + 6 * max(0, longest - 6), "r": 8, "t": 36, "b": 8}
    return content
