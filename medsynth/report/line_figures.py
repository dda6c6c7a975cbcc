"""Figures of curves over images seen, with bands of 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from medsynth.report.figures import COLORS, DASHES, SYMBOLS, Figure, number, plain, short
from medsynth.report.run import Run
from medsynth.report.run_files import Curve

IMAGES_SEEN = "real images seen"
_POINTS = 400  # of one curve; more cannot be distinguished on a screen
_POINTS_OF_ALL = 60 * _POINTS  # of all curves of a figure, so that a page of hundreds of jobs stays small
_FEWEST = 40  # of one curve, however many there are


@dataclass(frozen=True)
class Line:
    """A curve with its name.

    Attributes:
        name: name of the curve.
        curve: (images seen, values).
        band: lower and upper ends of its intervals; None: it has none.
        job: index of the run in a report of several; None in a report of one.
    """

    name: str
    curve: Curve
    band: tuple[Curve, Curve] | None = None
    job: int | None = None


def curves(lines: Sequence[Line], *, title: str, baseline: float | None = None) -> Figure:
    """Draw curves over images seen, with bands of intervals, and a baseline as a dotted line."""
    figure = go.Figure()
    points = min(_POINTS, max(_FEWEST, _POINTS_OF_ALL // max(len(lines), 1)))
    for index, line in enumerate(lines):
        color, meta = COLORS[index % len(COLORS)], {"job": line.job}
        if line.band:
            figure.add_trace(_band(*line.band, color, line.job, points))
        steps, values = thinned(line.curve, points)
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
        line_style = {"dash": "dot", "width": 1, "color": "#8C8C8C"}
        figure.add_hline(y=baseline, line=line_style, annotation_text="baseline")
    figure.update_layout(xaxis_title=IMAGES_SEEN, yaxis_title=title, showlegend=len(lines) > 1 and lines[0].job is None)
    return plain(figure)


def line_of(run: Run, name: str, label: str, job: int | None = None) -> Line:
    """Return a column of the run as a line, with the band of its intervals if it has one."""
    low, high = run.curves.get(f"{name}_low"), run.curves.get(f"{name}_high")
    band = (low, high) if low and high and low[0] == high[0] else None
    return Line(label, run.curves[name], band, job)


def description(lines: Sequence[Line]) -> str:
    """Describe a figure of ``lines`` in sentences, for readers who cannot see it."""
    sentences = []
    for line in lines:
        steps, values = line.curve
        known = [value for value in values if math.isfinite(value)]
        if known:
            sentences.append(
                f"{line.name}: from {values[0]:.4g} at {steps[0]:,} images to {values[-1]:.4g} at {steps[-1]:,}; "
                f"lowest {min(known):.4g}, highest {max(known):.4g}"
            )
    return ". ".join(sentences) + "." if sentences else "No finite value was logged."


def thinned(curve: Curve, points: int) -> tuple[list[int], list[float | None]]:
    """Return at most ``points`` evenly spaced points, including the first and the last; None where not finite."""
    steps, values = curve
    if len(steps) > points:
        places = [round(place * (len(steps) - 1) / (points - 1)) for place in range(points)]
        steps, values = [steps[place] for place in places], [values[place] for place in places]
    return list(steps), [number(value) if math.isfinite(value) else None for value in values]


def _band(lower: Curve, upper: Curve, color: str, job: int | None, points: int) -> go.Scatter:
    (steps, low), (_, high) = thinned(lower, points), thinned(upper, points)
    known = [place for place, ends in enumerate(zip(low, high, strict=True)) if None not in ends]
    return go.Scatter(
        x=[steps[place] for place in known] + [steps[place] for place in reversed(known)],
        y=[low[place] for place in known] + [high[place] for place in reversed(known)],
        fill="toself",
        fillcolor=color + "2b",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        meta={"job": job, "band": True},
    )
