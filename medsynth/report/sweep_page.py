"""Content of the page of several runs: the verdict, a table of all jobs, effects, curves and samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.report import figures, line_figures
from medsynth.report.columns import LOSSES, best_step, interval_at, metrics_of
from medsynth.report.effects import better, completed
from medsynth.report.factors import SEED, Factor, factors, value_of
from medsynth.report.notes import notes
from medsynth.report.option_values import UNKNOWN, typed_value
from medsynth.report.pictures import Pictures
from medsynth.report.run import Run
from medsynth.report.search_plots import PARALLEL, SearchPlot, dashboard_command, search_folder
from medsynth.report.sweep_effects import factor_effects, fronts, interactions, parallel_coordinates
from medsynth.report.sweep_kind import (
    COMPARISON,
    NOUNS,
    collapse_warning,
    command_of,
    differences,
    kind_of,
    label_of,
    title_of,
)
from medsynth.report.verdict import verdict
from medsynth.runs.status import COMPLETED, RUNNING, STATUSES

_COLUMNS = 3  # metrics besides the objective that are shown at first; the others can be selected
_MOST_COLORED = 12  # values of a factor by which curves are colored; more look alike
_FEW = 6  # jobs whose intervals can be distinguished in one figure


def sweep_view(
    runs: Sequence[Run], metric: str | None, budget: int, plots: Sequence[SearchPlot] = ()
) -> dict[str, Any]:
    """Return all values of templates/sweep.html.

    Args:
        runs: the runs.
        metric: by which they are compared; None: their objective.
        budget: bytes for pictures.
        plots: of the search whose trials they are.
    """
    metric = metric or _common_objective(runs)
    varied = factors(runs)
    chosen = [*varied, *_seeds(runs, varied)]
    others = [name for name in dict.fromkeys(name for run in runs for name in metrics_of(run)) if name != metric]
    labels = _labels(runs)
    kind = kind_of(runs)
    noun, search = NOUNS[kind], search_folder(runs)
    names = {run: label_of(run, label, noun) for run, label in zip(runs, labels, strict=True)}
    best = _best(runs, metric)
    colored = _colored(runs, chosen, labels)
    return {
        "title": title_of(runs, varied),
        "kind": kind,
        "noun": noun,
        "tally": _tally(runs, noun),
        "warning": collapse_warning(runs, noun),
        "command": command_of(best) if best and best.choices else "",
        "winner": names[best] if best else "",
        "differing": differences(runs) if kind == COMPARISON else [],
        "labels": labels,
        "dashboard": dashboard_command(search) if search else "",
        "metric": metric,
        "verdict": verdict(runs, metric) if metric else "No run has a value of its objective to compare.",
        "notes": notes(runs),
        "factors": chosen,
        "others": [{"name": name, "shown": place < _COLUMNS} for place, name in enumerate(others)],
        "rows": [_row(run, label, chosen, metric, others) for run, label in zip(runs, labels, strict=True)],
        "bands": len(runs) <= _FEW,
        "colored": [{"label": label, "values": values} for label, values, _ in colored],
        "jobs": [
            {"values": [values.index(of_runs[place]) for _, values, of_runs in colored]} for place in range(len(runs))
        ],
        **_figures(runs, varied, metric, others[:_COLUMNS], names, plots),
        "translates": all(run.translated for run in runs if run.samples),
        **_grids(runs, labels, chosen, metric, budget, best),
    }


def _figures(
    runs: Sequence[Run],
    varied: Sequence[Factor],
    metric: str | None,
    others: Sequence[str],
    names: Mapping[Run, str],
    plots: Sequence[SearchPlot],
) -> dict[str, Any]:
    """Return all figures, ``figures``, and for each part of the page what it shows of them."""
    drawn: dict[str, figures.Figure] = {}
    optunas = any(plot.kind == PARALLEL for plot in plots)  # beside which medsynth's own would be the same again
    return {
        "plots": list(_search_plots(plots, drawn)),
        "effects": list(factor_effects(runs, varied, metric, drawn, names)) if metric else [],
        "interactions": list(interactions(runs, varied, metric, drawn)) if metric else [],
        "parallel": parallel_coordinates(runs, varied, metric, drawn, names) if metric and not optunas else None,
        "has_optunas_parallel": optunas,
        "fronts": list(fronts(runs, names, metric, drawn)) if metric else [],
        "curves": list(_curves(runs, metric, others, drawn, names)),
        "figures": drawn,
    }


def _common_objective(runs: Sequence[Run]) -> str | None:
    """Return the objective of most runs, of those that have a value; None if no run has."""
    counts = Counter(run.objective for run in runs if run.objective and run.value(run.objective) is not None)
    return counts.most_common(1)[0][0] if counts else None


def _seeds(runs: Sequence[Run], varied: Sequence[Factor]) -> list[Factor]:
    """Return the seed as a further column, if it varies besides the factors."""
    of = {run.folder: typed_value(run, SEED, runs) for run in runs}
    if SEED in [factor.key for factor in varied] or len(set(of.values()) - {UNKNOWN}) < 2:
        return []
    values = sorted(set(of.values()), key=lambda value: (not value.isdigit(), value.zfill(20)))
    return [Factor(SEED, SEED, tuple(values), of=of)]


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return the numbers of the jobs if these are unique, else folder and number."""
    numbers = [run.number for run in runs]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return [str(number) for number in numbers]
    return [f"{run.folder.parent.name}/{run.folder.name}" for run in runs]


def _best(runs: Sequence[Run], metric: str | None) -> Run | None:
    measured = completed(runs, metric) if metric else {}
    if not measured or metric is None:
        return None
    return (max if better(metric, runs) == "higher" else min)(measured, key=measured.__getitem__)


def _search_plots(plots: Sequence[SearchPlot], drawn: dict[str, figures.Figure]) -> Iterator[dict[str, Any]]:
    for place, plot in enumerate(plots):
        drawn[f"search-{place}"] = plot.figure
        columns = sum(name.startswith("xaxis") for name in plot.figure["layout"])
        axes = 1 + len(plot.figure["layout"].get("shapes", ())) if plot.kind == PARALLEL else 0
        wide = 260 * columns if plot.kind == "slice" else 120 * axes
        yield {"id": f"search-{place}", "title": plot.title, "remark": plot.remark, "text": "", "wide": wide}


def _tally(runs: Sequence[Run], noun: str) -> str:
    counts = Counter(run.status for run in runs)
    return f"{len(runs)} {noun}s: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _row(run: Run, label: str, varied: Sequence[Factor], metric: str | None, others: Sequence[str]) -> dict[str, Any]:
    final = run.curves.get(metric or "", ([], []))[0][-1:]
    return {
        "label": label,
        "run": run,
        "values": [value_of(run, factor) for factor in varied],
        "broken": run.status not in (COMPLETED, RUNNING),
        "best": run.value(metric) if metric else None,
        "best_interval": interval_at(run, metric, best_step(run)) if metric else None,
        "final": _last(run, metric),
        "final_interval": interval_at(run, metric, final[0]) if metric and final else None,
        "others": [(run.value(name), interval_at(run, name, best_step(run))) for name in others],
        "parameters": run.value("parameters.generator"),
    }


def _last(run: Run, metric: str | None) -> float | None:
    if metric == run.objective:
        return run.final
    values = [value for value in run.curves.get(metric or "", ([], []))[1] if math.isfinite(value)]
    return values[-1] if values else None


def _colored(runs: Sequence[Run], varied: Sequence[Factor], labels: Sequence[str]) -> list[tuple]:
    """Return what curves are colored and filtered by: (label, values, value of each run), the jobs last."""
    few = [factor for factor in varied if len(factor.values) <= _MOST_COLORED]
    groups = [(factor.label, list(factor.values), [value_of(run, factor) for run in runs]) for factor in few]
    groups = [(label, values + sorted(set(of_runs) - set(values)), of_runs) for label, values, of_runs in groups]
    return [*groups, ("job", list(labels), list(labels))]


def _curves(
    runs: Sequence[Run], metric: str | None, others: Sequence[str], drawn: dict, names: Mapping[Run, str]
) -> Iterator[dict[str, str]]:
    losses = {column: f"{label.capitalize()} loss" for column, label in reversed(LOSSES.labels.items())}
    titles = ({metric: f"{metric} (objective)"} if metric else {}) | losses | {name: name for name in others}
    for name, title in titles.items():
        logged = [(place, run) for place, run in enumerate(runs) if run.curves.get(name, ([], []))[0]]
        if not logged:
            continue
        lines = [line_figures.line_of(run, name, names[run], place) for place, run in logged]
        drawn[f"curve-{len(drawn)}"] = line_figures.curves(lines, title=name.split("/")[-1])
        last = {names[run]: values[-1] for _, run in logged for values in [_finite(run, name)] if values}
        text = f"{name} of {len(lines)} jobs over real images seen."
        if last:
            low, high = min(last, key=last.__getitem__), max(last, key=last.__getitem__)
            text += f" The last values are between {last[low]:.4g} ({low}) and {last[high]:.4g} ({high})."
        yield {"id": f"curve-{len(drawn) - 1}", "title": title, "remark": "", "text": text}


def _finite(run: Run, name: str) -> list[float]:
    return [value for value in run.curves[name][1] if math.isfinite(value)]


def _grids(
    runs: Sequence[Run],
    labels: Sequence[str],
    varied: Sequence[Factor],
    metric: str | None,
    budget: int,
    best: Run | None,
) -> dict[str, Any]:
    """Return the pictures: real images, and for each run those of its best generator, or else the last ones."""
    chosen = {}
    for run in runs:
        at = best_step(run)
        step = at if at in run.samples else max(run.samples, default=None)
        if step is not None:
            chosen[run] = (step, run.samples[step])
    real = next((run.real_samples for run in runs if run.real_samples), None)
    pictures = Pictures([*([real] if real else []), *(path for _, path in chosen.values())], budget)
    grids = [
        {
            "uri": pictures.get(chosen[run][1]),
            "label": label,
            "is_best": run is best,
            "step": chosen[run][0],
            "values": [(factor.label, value_of(run, factor)) for factor in varied],
            "best": run.value(metric) if metric else None,
            "status": run.status,
        }
        for run, label in zip(runs, labels, strict=True)
        if run in chosen and pictures.get(chosen[run][1])
    ]
    return {"real": pictures.get(real), "grids": grids, "picture_remark": pictures.remark}
