"""The report as one HTML file, which needs no other file and no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import medsynth
from medsynth.errors import InputError
from medsynth.files import replacing
from medsynth.report.columns import metric_names
from medsynth.report.evaluation import counts_text
from medsynth.report.figures import COLORS, DASHES, Figure
from medsynth.report.run import Run
from medsynth.report.run_page import run_view
from medsynth.report.runs import read_runs
from medsynth.report.search_plots import SearchPlot
from medsynth.report.sweep_page import sweep_view

LIMIT = 20_000_000  # bytes of the file
PICTURES = 12_000_000  # bytes of these for pictures; plotly.js has 5 million


def write_report(
    folders: Sequence[Path], out: Path, metric: str | None = None, *, plots: Sequence[SearchPlot] = ()
) -> Path:
    """Write the report of runs to ``out``, completely or not at all.

    Args:
        folders: folders of runs or of sweeps.
        out: the HTML file.
        metric: metric by which the runs are compared, such as ``val/kd_mini``; None: their objective.
        plots: of the search in the one folder.

    Returns:
        ``out``.

    Raises:
        InputError: a folder has no run, no run has ``metric``, or ``out`` cannot be written.
    """
    page = render(read_runs(folders), metric, place=out.parent, plots=plots)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"out={out} cannot be written ({error.strerror}): name another file.") from error
    return out


def render(
    runs: Sequence[Run],
    metric: str | None = None,
    live: bool = False,
    *,
    place: Path | None = None,
    plots: Sequence[SearchPlot] = (),
) -> str:
    """Return the page of one run or several.

    Args:
        runs: to show.
        metric: by which they are compared; None: their objective.
        live: the page reloads itself from ``medsynth report watch=true``.
        place: folder of the page, from which it links files; None: it has no links.
        plots: of a search.
    """
    if metric is not None and not any(metric in run.curves for run in runs):
        known = metric_names(sorted({name for run in runs for name in run.curves}))
        choice = (
            f"choose one of {', '.join(known)}" if known else "no run has reached a validation, so leave metric= out"
        )
        raise InputError(f"metric={metric} was not logged by any run: {choice}.")
    if len(runs) == 1:
        name, view = "run.html", run_view(runs[0], PICTURES, place)
    else:
        name, view = "sweep.html", sweep_view(runs, metric, PICTURES, plots)
    figures = {"figures": view.pop("figures"), "jobs": view.pop("jobs", []), "colors": COLORS, "dashes": DASHES}
    return _rendered(name, view, figures, live=live)


def render_page(template: str, content: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return the page of a template with its values and its figures by id."""
    return _rendered(template, content, {"figures": dict(figures), "jobs": [], "colors": COLORS, "dashes": DASHES})


def _rendered(template: str, content: Mapping[str, Any], data: Mapping[str, Any], *, live: bool = False) -> str:
    page = {
        "version": medsynth.__version__,
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "live": live,
        "data": data,
    }
    return _environment().get_template(template).render(**page, **content)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("medsynth.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": _value, "count": _count, "interval": _interval, "minutes": _minutes}
    environment.filters["counts"] = counts_text
    # These files are inserted as they are; everything else is escaped.
    environment.globals |= {
        "plotly_js": Markup(get_plotlyjs()),
        "style": Markup(loader.get_source(environment, "report.css")[0]),
        "script": Markup(loader.get_source(environment, "report.js")[0]),
    }
    return environment


def _value(value: Any) -> str:
    """Format a number with four significant digits, None and NaN as a dash; text is returned as it is."""
    if isinstance(value, bool | str):
        return str(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:#.4g}".rstrip(".")


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60:,.1f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{_value(ends[0])} to {_value(ends[1])}"
