"""Content of a sweep's page about its factors: effects, interactions, parallel coordinates, quality against cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.report import figures
from medsynth.report.effects import Effect, PairedDifference, better, completed, differences, effects, pareto
from medsynth.report.factors import Factor, value_of
from medsynth.report.interaction import interaction
from medsynth.report.parallel_coordinates import choice_axis, draw_parallel, number_axis
from medsynth.report.run import Run

COSTS = {
    "seconds": "minutes",
    "memory_gib": "peak memory in GiB",
    "parameters.generator": "parameters of the generator",
}
_MAX_FACTORS = 3  # whose interactions are shown
_MOST_COMPARED = 6  # values of a factor of which all pairs are compared
_MIN_RUNS = 2  # with a value, to compare


def factor_effects(
    runs: Sequence[Run],
    varied: Sequence[Factor],
    metric: str,
    drawn: dict[str, figures.Figure],
    names: Mapping[Run, str],
) -> Iterator[dict[str, Any]]:
    """Yield for each factor a plot of the runs, the means with the spread between seeds, and paired differences.

    A number that took many values, each once or twice as in a search, has a plot alone; of many choices only those that
    involve the best are compared.
    """
    means = effects(runs, metric)
    for factor in varied:
        rows = [effect for effect in means if effect.factor.key == factor.key]
        dots = {value: _dots(runs, factor, value, metric, names) for value in factor.values}
        if not any(dots.values()):
            continue
        if is_continuous(factor, dots):
            yield _scatter(factor, dots, metric, drawn)
            continue
        drawn[f"effect-{len(drawn)}"] = figures.effect(
            dots, {row.value: (row.mean, row.spread) for row in rows if row.mean is not None}, title=metric
        )
        chart = {
            "id": f"effect-{len(drawn) - 1}",
            "title": f"{metric} by {factor.label}",
            "remark": "A dot is a completed run; the bar is their mean with the standard deviation between seeds.",
            "text": _means(rows),
        }
        pairs = differences(runs, metric, factor)
        if len(factor.values) > _MOST_COMPARED:
            known = {row.value: row.mean for row in rows if row.mean is not None}
            best = (max if better(metric, runs) == "higher" else min)(known, key=known.__getitem__)
            pairs = [pair for pair in pairs if best in (pair.a, pair.b)]
        yield {
            "label": factor.label,
            "together": factor.together,
            "chart": chart,
            "rows": rows,
            "differences": [_pair(pair) for pair in pairs],
            "unpaired": any(not pair.pairs for pair in pairs),
        }


def interactions(
    runs: Sequence[Run], varied: Sequence[Factor], metric: str, drawn: dict[str, figures.Figure]
) -> Iterator[dict[str, Any]]:
    """Yield a table and a figure of the means for each pair of factors, of those with few values."""
    few = [factor for factor in varied if len(factor.values) <= _MOST_COMPARED]
    for first, second in itertools.combinations(few[:_MAX_FACTORS], 2):
        found = interaction(runs, first, second, metric)
        rows = [
            {"value": value, "cells": list(zip(means, counts, strict=True))}
            for value, means, counts in zip(first.values, found.means, found.counts, strict=True)
        ]
        drawn[f"interaction-{len(drawn)}"] = figures.interaction(
            dict(zip(first.values, found.means, strict=True)), second.values, title=metric, label=second.label
        )
        chart = {
            "id": f"interaction-{len(drawn) - 1}",
            "title": f"{first.label} and {second.label}",
            "remark": found.sentence,
            "text": "",
        }
        yield {"first": first.label, "second": second.label, "columns": second.values, "rows": rows, "chart": chart}


def parallel_coordinates(
    runs: Sequence[Run],
    varied: Sequence[Factor],
    metric: str,
    drawn: dict[str, figures.Figure],
    names: Mapping[Run, str],
) -> dict[str, Any] | None:
    """Return a figure with a line for each run that has a value, across factors, minutes and the metric."""
    measured = completed(runs, metric)
    if len(measured) < _MIN_RUNS or not varied:
        return None
    axes = [choice_axis(factor.label, factor.values, [value_of(run, factor) for run in measured]) for factor in varied]
    if any(run.seconds for run in measured):
        axes.append(number_axis("minutes", [None if run.seconds is None else run.seconds / 60 for run in measured]))
    axes.append(number_axis(metric, list(measured.values())))
    higher = better(metric, runs) == "higher"
    best = (max if higher else min)(measured, key=measured.__getitem__)
    drawn["parallel"] = draw_parallel([names[run] for run in measured], axes, higher=higher)
    return {
        "id": "parallel",
        "title": f"{len(measured)} jobs from their options to {metric}",
        "remark": "Stronger lines are better runs; the widest is the best.",
        "text": f"The best {metric} is {measured[best]:.4g}, of {names[best]}.",
        "width": 120 * len(axes),
    }


def fronts(
    runs: Sequence[Run], names: Mapping[Run, str], metric: str, drawn: dict[str, figures.Figure]
) -> Iterator[dict[str, Any]]:
    """Yield for each known cost a figure of the runs by cost and quality, with the Pareto front marked."""
    for cost, label in COSTS.items():
        scale = 60 if cost == "seconds" else 1
        costs, values = completed(runs, cost), completed(runs, metric)
        measured = [run for run in values if run in costs]
        if len(measured) < _MIN_RUNS:
            continue
        best = pareto(measured, cost, metric)
        points = [
            figures.Point(figures.short(names[run], 60), costs[run] / scale, values[run], run in best)
            for run in measured
        ]
        drawn[f"front-{cost}"] = figures.front(points, cost=label, title=metric)
        on_front = sorted((point for point in points if point.on_front), key=lambda point: point.cost)
        text = "; ".join(f"{point.name} with {point.value:.4g} at {_cost(point.cost)}" for point in on_front)
        chart = {
            "id": f"front-{cost}",
            "title": f"{metric} against {label}",
            "remark": f"On the Pareto front, where no other run is both better and cheaper: {text}.",
            "text": "",
        }
        yield {"key": cost, "label": label, "chart": chart}


def is_continuous(factor: Factor, dots: Mapping[str, Sequence[Any]]) -> bool:
    """Tell whether a factor is a number that took many values, hardly any of them twice."""
    known = [value for value in factor.values if dots[value]]
    if len(known) <= _MOST_COMPARED or sum(map(len, dots.values())) > 2 * len(known):
        return False
    return all(_as_number(value) is not None for value in known)


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _scatter(
    factor: Factor, dots: Mapping[str, Sequence[tuple[str, float]]], metric: str, drawn: dict[str, figures.Figure]
) -> dict[str, Any]:
    points = [(name, float(value), y) for value, of_value in dots.items() for name, y in of_value]
    key = f"effect-{len(drawn)}"
    drawn[key] = figures.over_numbers(points, label=factor.label, title=metric)
    low, high = min(points, key=lambda point: point[2]), max(points, key=lambda point: point[2])
    chart = {
        "id": key,
        "title": f"{metric} by {factor.label}",
        "remark": f"A dot is a completed run; {factor.label} took {len(dots)} values.",
        "text": f"Lowest {low[2]:.4g} at {low[1]:.4g}, highest {high[2]:.4g} at {high[1]:.4g}.",
    }
    of_factor = {"label": factor.label, "together": factor.together, "chart": chart, "rows": []}
    return {**of_factor, "differences": [], "unpaired": False}


def _dots(
    runs: Sequence[Run], factor: Factor, value: str, metric: str, names: Mapping[Run, str]
) -> list[tuple[str, float]]:
    measured = completed(runs, metric)
    return [(figures.short(names[run], 60), measured[run]) for run in measured if value_of(run, factor) == value]


def _cost(value: float) -> str:
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"


def _means(rows: Sequence[Effect]) -> str:
    known = [f"{row.value}: mean {row.mean:.4g} of {row.count} runs" for row in rows if row.mean is not None]
    return "; ".join(known) + "." if known else "No run completed."


def _pair(pair: PairedDifference) -> dict[str, Any]:
    known = pair.low is not None and pair.high is not None
    return {
        "a": pair.a,
        "b": pair.b,
        "difference": pair.difference,
        "pairs": pair.pairs,
        "ends": (pair.low, pair.high) if known else None,
    }
