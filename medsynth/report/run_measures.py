"""The measures on the page of a run: the headline, and tables by what they say, with bars from baseline to worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medsynth.report.columns import NUM_FAKE, NUM_REAL, best_step, interval_at, metrics_of
from medsynth.report.evaluation import SELECTED
from medsynth.report.measures import (
    BETTER,
    GROUPS,
    direction,
    extractor_of,
    kind_of,
    scale_of,
    share_of_worst,
)
from medsynth.report.run import Run
from medsynth.report.run_files import finite
from medsynth.report.translation import translation_remarks, translation_tables

Row = dict[str, Any]
_HEADLINES = 5


def baselines(run: Run) -> dict[str, float | None]:
    """Return the baselines of validation's measures, from evaluations at validation's number of images."""
    counts = [run.value(NUM_REAL), run.value(NUM_FAKE)]
    return {
        f"val/{row['name']}": row.get("baseline")
        for record in evaluations(run)
        for row in record["measures"]
        if row.get("num_baseline") == counts
    }


def evaluations(run: Run) -> list[Mapping[str, Any]]:
    """Return the records of ``medsynth evaluate``, or else that of the figures, by path in the run's folder."""
    records: list[Mapping[str, Any]] = [
        {**record, "file": f"evaluation/{record['file']}"} for record in run.evaluations
    ]
    return records or ([] if run.measures is None else [run.measures])


def tables(run: Run, of_validation: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Return a table of validation's measures, and one for each evaluation, their rows in groups."""
    found = []
    rows = [_validated(run, name, of_validation.get(name)) for name in metrics_of(run)]
    if rows:
        count = run.value(NUM_FAKE), run.value(NUM_REAL)
        images = "" if None in count else f", {count[0]:,.0f} generated and {count[1]:,.0f} real images"
        found.append(_table("validation", f"In validation, of the best generator{images}", rows))
    for record in evaluations(run):
        real, fake = record["real"], record["fake"]
        caption = (
            f"{record['file']}: {_counted(fake['count'])} images of {fake['source']} against "
            f"{_counted(real['count'])} of {real['source']}{SELECTED if real.get('selected') else ''}"
        )
        measured = [_evaluated(run, row) for row in record["measures"]]
        paired = {"paired": translation_tables(record), "remarks": translation_remarks(record)}
        found.append(_table(record["file"], caption, measured) | {"notes": record["notes"], **paired})
    return found


def headline(measured: list[dict[str, Any]], objective: str | None) -> list[Row]:
    """Return the objective and the first measure of each group, of validation or else of an evaluation."""
    chosen: dict[str, Row] = {}
    for table in measured:
        for group in table["groups"]:
            for row in group["rows"]:
                if row["value"] is not None and row["kind"].title:
                    chosen.setdefault(row["kind"].title, row)
    wanted = [
        "Mean absolute error, source copied",
        "PSNR",
        "SSIM",
        "Precision",
        "Recall",
        "MS-SSIM",
        "Modes caught",
        "Copies",
        "Intensity distance",
        "Inception score",
    ]
    named = objective and objective.removeprefix("val/")
    rows = [row for table in measured for group in table["groups"] for row in group["rows"]]
    rows = [row for row in rows if row["name"].removeprefix("val/") == named]
    rows.sort(key=lambda row: row["baseline"] is None)  # of an evaluation, where validation has none
    titles = [title for title in wanted if title in chosen and chosen[title] not in rows[:1]]
    return [*rows[:1], *(chosen[title] for title in titles)][:_HEADLINES]


def _table(key: str, caption: str, rows: list[Row]) -> dict[str, Any]:
    groups = [
        {"title": title, "question": question, "rows": [row for row in rows if row["kind"].group == group]}
        for group, (title, question) in GROUPS.items()
    ]
    shown = [group for group in groups if group["rows"]]
    return {"key": key, "caption": caption, "groups": shown, "notes": [], "paired": [], "remarks": []}


def _validated(run: Run, name: str, baseline: float | None) -> Row:
    known = [value for value in run.curves[name][1] if math.isfinite(value)]
    better = direction(run, name)
    worst = None if not known else (min(known) if better == "higher" else max(known))
    return {
        "key": name,
        "interval": interval_at(run, name, best_step(run)),
        "last": known[-1] if known else None,
        "ratio": None,
        "counts": (),
        **_row(run, name, run.value(name), finite(baseline), worst),
    }


def _evaluated(run: Run, measure: Mapping[str, Any]) -> Row:
    seen = run.curves.get(f"val/{measure['name']}", ([], []))[1]
    known = [value for value in seen if math.isfinite(value)]
    low, high = finite(measure.get("low")), finite(measure.get("high"))
    better = measure.get("better")
    row = _row(
        run, measure["name"], finite(measure.get("value")), finite(measure.get("baseline")), max(known, default=None)
    )
    return row | {
        "key": measure["name"],
        "interval": None if low is None or high is None else (low, high),
        "last": None,
        "ratio": finite(measure.get("ratio")),
        "counts": (measure.get("num_real"), measure.get("num_fake"), measure.get("num_baseline")),
        "better": BETTER.get(str(better), row["better"]),
    }


def _row(run: Run, name: str, value: float | None, baseline: float | None, seen: float | None) -> Row:
    kind = kind_of(name)
    worst, logarithmic = scale_of(name, baseline, seen)
    share = share_of_worst(value, baseline, worst, logarithmic=logarithmic)
    extractor = extractor_of(name)
    return {
        "name": name,
        "kind": kind,
        "title": kind.title + (f", {extractor}" if extractor and kind.title else ""),
        "value": value,
        "baseline": baseline,
        "better": BETTER[direction(run, name)],
        "bar": None if share is None else {"share": round(100 * share, 1), "worst": worst, "logarithmic": logarithmic},
    }


def _counted(count: Any) -> str:
    number = finite(count)
    return "-" if number is None else f"{number:,.0f}"
