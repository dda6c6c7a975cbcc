"""What the sweep's page shows of its factors: effects, interactions, parallel coordinates, quality against cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from medsynth.report import figures
from medsynth.report.effects import Effect, PairedDifference, better, completed, differences, effects, pareto
from medsynth.report.factors import Factor, value_of
from medsynth.report.interaction import interaction
from medsynth.report.parallel import choice_axis, number_axis, parallel
from medsynth.report.runs import Run

COSTS = {"seconds": "minutes", "memory_gib": "peak memory in GiB", "weights.generator": "weights of the generator"}
_CROSSED = 3  # factors whose pairs are shown
_FEWEST = 2  # runs with a value, below which there is nothing to compare


def of_factors(
    runs: Sequence[Run], varied: Sequence[Factor], metric: str, drawn: dict[str, figures.Figure]
) -> Iterator[dict[str, Any]]:
    """For each factor: a dot plot of the runs, the means with their spread, differences of pairs."""
    means = effects(runs, metric)
    for factor in varied:
        rows = [effect for effect in means if effect.factor.key == factor.key]
        dots = {value: _dots(runs, factor, value, metric) for value in factor.values}
        if not any(dots.values()):
            continue
        drawn[f"effect-{len(drawn)}"] = figures.effect(
            dots, {row.value: (row.mean, row.spread) for row in rows if row.mean is not None}, title=metric
        )
        chart = {
            "id": f"effect-{len(drawn) - 1}",
            "title": f"{metric} by {factor.label}",
            "remark": "A dot is a completed run; the bar is their mean with the standard deviation of seeds.",
            "text": _means(rows),
        }
        pairs = differences(runs, metric, factor)
        yield {
            "label": factor.label,
            "together": factor.together,
            "chart": chart,
            "rows": rows,
            "differences": [_pair(pair) for pair in pairs],
            "unpaired": any(not pair.pairs for pair in pairs),
        }


def crossings(
    runs: Sequence[Run], varied: Sequence[Factor], metric: str, drawn: dict[str, figures.Figure]
) -> Iterator[dict[str, Any]]:
    """Tables and lines of the means for pairs of factors."""
    for first, second in itertools.combinations(varied[:_CROSSED], 2):
        crossed = interaction(runs, first, second, metric)
        rows = [
            {"value": value, "cells": list(zip(means, counts, strict=True))}
            for value, means, counts in zip(first.values, crossed.means, crossed.counts, strict=True)
        ]
        drawn[f"crossing-{len(drawn)}"] = figures.interaction(
            dict(zip(first.values, crossed.means, strict=True)), second.values, title=metric, label=second.label
        )
        chart = {
            "id": f"crossing-{len(drawn) - 1}",
            "title": f"{first.label} and {second.label}",
            "remark": crossed.sentence,
            "text": "",
        }
        yield {"first": first.label, "second": second.label, "columns": second.values, "rows": rows, "chart": chart}


def parallel_coordinates(
    runs: Sequence[Run], varied: Sequence[Factor], metric: str, drawn: dict[str, figures.Figure]
) -> dict[str, Any] | None:
    """A line for each run that has a value, across its factors, minutes and the metric."""
    there = list(completed(runs, metric))
    if len(there) < _FEWEST or not varied:
        return None
    axes = [choice_axis(factor.label, factor.values, [value_of(run, factor) for run in there]) for factor in varied]
    if any(run.seconds for run in there):
        axes.append(number_axis("minutes", [None if run.seconds is None else run.seconds / 60 for run in there]))
    axes.append(number_axis(metric, [run.value(metric) for run in there]))
    higher = better(metric) == "higher"
    best = (max if higher else min)(there, key=lambda run: run.value(metric))
    drawn["parallel"] = parallel([run.name for run in there], axes, higher=higher)
    return {
        "id": "parallel",
        "title": f"{len(there)} jobs from their choices to {metric}",
        "remark": "The stronger a line, the better its run; the widest is the best.",
        "text": f"The best {metric} is {best.value(metric):.4g}, of {best.name}.",
        "width": 120 * len(axes),
    }


def fronts(
    runs: Sequence[Run], labels: Sequence[str], metric: str, drawn: dict[str, figures.Figure]
) -> Iterator[dict[str, Any]]:
    """For each cost that is known: the runs by cost and quality, those that no other beats in both marked."""
    for cost, label in COSTS.items():
        scale = 60 if cost == "seconds" else 1
        there = [run for run in completed(runs, metric) if run.value(cost) is not None]
        if len(there) < _FEWEST:
            continue
        best = pareto(there, cost, metric)
        of_run = dict(zip(runs, labels, strict=True))
        names = {run: f"job {of_run[run]} ({figures.short(run.name, 60)})" for run in there}
        points = [figures.Point(names[run], run.value(cost) / scale, run.value(metric), run in best) for run in there]
        drawn[f"front-{cost}"] = figures.front(points, cost=label, title=metric)
        on_front = sorted((point for point in points if point.on_front), key=lambda point: point.cost)
        text = "; ".join(f"{point.name} with {point.value:.4g} at {point.cost:,.4g}" for point in on_front)
        chart = {
            "id": f"front-{cost}",
            "title": f"{metric} against {label}",
            "remark": f"On the front, where no run is both better and cheaper: {text}.",
            "text": "",
        }
        yield {"key": cost, "label": label, "chart": chart}


def _dots(runs: Sequence[Run], factor: Factor, value: str, metric: str) -> list[tuple[str, float]]:
    there = [(run.name, number) for run, number in completed(runs, metric).items() if value_of(run, factor) == value]
    return [(figures.short(name, 60), number) for name, number in there]


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
