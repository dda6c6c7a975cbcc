"""One self-contained HTML file of a run, or of several: no network, opens from disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from medsynth.report.columns import is_metric
from medsynth.report.figures import COLORS, DASHES
from medsynth.report.run_page import run_view
from medsynth.report.runs import Run, read_runs
from medsynth.report.sweep_page import sweep_view

LIMIT = 20_000_000  # bytes of the whole file
PICTURES = 12_000_000  # of them for pictures; plotly.js takes 5


def write_report(folders: Sequence[Path], out: Path, metric: str | None = None) -> Path:
    """Write the report of the runs in ``folders`` (of runs or of sweeps) to ``out``, whole or not at all; returns it.

    Args:
        metric: what the runs are compared by, such as ``val/kd_mini``; None: their objective.

    Raises:
        InputError: a folder holds no run, no run has ``metric``, or ``out`` cannot be written.
    """
    page = render(read_runs(folders), metric)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"out={out} cannot be written ({error.strerror}): name a file that can.") from error
    return out


def render(runs: Sequence[Run], metric: str | None = None, live: bool = False) -> str:
    """The page of one run, or of several; a ``live`` one reloads itself from ``medsynth report watch=true``."""
    if metric is not None and not any(metric in run.curves for run in runs):
        known = sorted({name for run in runs for name in run.curves if is_metric(name)})
        choice = f"choose among {', '.join(known)}" if known else "no run has reached a validation"
        raise InputError(f"metric={metric} was logged by no run: {choice}.")
    if len(runs) == 1:
        name, view = "run.html", run_view(runs[0], PICTURES)
    else:
        name, view = "sweep.html", sweep_view(runs, metric, PICTURES)
    page = {
        "version": medsynth.__version__,
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "live": live,
        "data": {"figures": view.pop("figures"), "jobs": view.pop("jobs", []), "colors": COLORS, "dashes": DASHES},
    }
    return _environment().get_template(name).render(**page, **view)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("medsynth.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": _value, "count": _count, "interval": _interval, "minutes": _minutes}
    # Our own files and plotly's, which are to stand unescaped; everything else is escaped.
    environment.globals |= {
        "plotly_js": Markup(get_plotlyjs()),
        "style": Markup(environment.loader.get_source(environment, "report.css")[0]),
        "script": Markup(environment.loader.get_source(environment, "report.js")[0]),
    }
    return environment


def _value(value: Any) -> str:
    """Four significant digits, a dash for what is not known, and text as it is."""
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
