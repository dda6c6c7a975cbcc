"""Figures of curves over images seen, with the bands of their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from medsynth.report.figures import COLORS, DASHES, SYMBOLS, Figure, number, plain, short
from medsynth.report.run_files import Curve
from medsynth.report.runs import Run

IMAGES_SEEN = "real images seen"
_POINTS = 400  # of one curve; more cannot be told apart on a screen


@dataclass(frozen=True)
class Line:
    """A curve with its name; with the ends of its intervals it has a band; ``job`` is its place among the runs."""

    name: str
    curve: Curve
    band: tuple[Curve, Curve] | None = None
    job: int | None = None


def curves(lines: Sequence[Line], *, title: str, baseline: float | None = None) -> Figure:
    """Curves over images seen, with bands of intervals, and a baseline as a dotted line."""
    figure = go.Figure()
    for index, line in enumerate(lines):
        color, meta = COLORS[index % len(COLORS)], {"job": line.job}
        if line.band:
            figure.add_trace(_band(line, color))
        steps, values = thinned(line.curve)
        few = len(steps) < 40
        figure.add_scatter(
            x=steps,
            y=values,
            name=short(line.name, 60),
            mode="lines+markers" if few else "lines",
            meta=meta,
            line={"color": color, "dash": DASHES[index % len(DASHES)], "width": 1.6},
            marker={"size": 5, "symbol": SYMBOLS[index % len(SYMBOLS)]},
        )
    if baseline is not None:
        figure.add_hline(y=baseline, line={"dash": "dot", "width": 1, "color": "#8C8C8C"}, annotation_text="baseline")
    figure.update_layout(xaxis_title=IMAGES_SEEN, yaxis_title=title, showlegend=len(lines) > 1 and lines[0].job is None)
    return plain(figure)


def line_of(run: Run, name: str, label: str, job: int | None = None) -> Line:
    """A column of the run with its band, where it has one."""
    low, high = run.curves.get(f"{name}_low"), run.curves.get(f"{name}_high")
    whole = bool(low and high and low[0] == high[0])
    return Line(label, run.curves[name], (low, high) if whole else None, job)


def in_words(lines: Sequence[Line]) -> str:
    """What a figure shows, for those who do not see it."""
    parts = []
    for line in lines:
        steps, values = line.curve
        known = [value for value in values if math.isfinite(value)]
        if known:
            parts.append(
                f"{line.name}: from {values[0]:.4g} at {steps[0]:,} images to {values[-1]:.4g} at {steps[-1]:,}; "
                f"lowest {min(known):.4g}, highest {max(known):.4g}"
            )
    return ". ".join(parts) + "." if parts else "No finite value was logged."


def thinned(curve: Curve) -> Curve:
    """At most ``_POINTS`` of its points, evenly, the first and the last among them."""
    steps, values = curve
    if len(steps) > _POINTS:
        places = [round(place * (len(steps) - 1) / (_POINTS - 1)) for place in range(_POINTS)]
        steps, values = [steps[place] for place in places], [values[place] for place in places]
    return list(steps), [number(value) if math.isfinite(value) else None for value in values]


def _band(line: Line, color: str) -> go.Scatter:
    (steps, low), (_, high) = (thinned(curve) for curve in line.band)
    there = [place for place, ends in enumerate(zip(low, high, strict=True)) if None not in ends]
    return go.Scatter(
        x=[steps[place] for place in there] + [steps[place] for place in reversed(there)],
        y=[low[place] for place in there] + [high[place] for place in reversed(there)],
        fill="toself",
        fillcolor=color + "2b",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        meta={"job": line.job, "band": True},
    )
