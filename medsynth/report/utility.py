"""Records of ``medsynth utility`` as text for the terminal, and as a figure of gain against real-set size."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medsynth.files import replacing

CONTROLS = {"duplicated": "duplicated real images", "real": "real images", "augmented": "augmented real images"}


def utility_text(record: Mapping[str, Any]) -> str:
    """Format a record as lines: the answer, the arms and the gains at the largest size, the curve, notes."""
    size, measure = record["size"], record["measure"]
    training, test, synthetic = (record[side] for side in ("training", "test", "synthetic"))
    arms = [arm for arm in record["arms"] if arm["size"] == size]
    shown = [name for name in arms[0]["measures"] if "/" not in name]
    lines = [
        f"{synthetic['count']:,} generated images of {synthetic['source']}",
        f"beside {training['count']:,} real ones of {training['source']}",
        f"tested on {test['count']:,} of {test['source']}, {record['seeds']} seeds, {record['fit']['steps']} steps",
        "",
        *_table(
            [("trained on", "images", *shown)]
            + [(a["label"], f"{a['count']:,}", *(_number(a["measures"][n]["value"]) for n in shown)) for a in arms]
        ),
        "",
        f"Gains in {measure} with {size:,} real images, 95 % intervals over seeds and test images",
        *_table([("arm", "over", "gain", "interval", "p", "p, Holm"), *_gains(record)]),
        "",
        *_by_class(record),
        *(line for text in (f"Useful: {record['answer']}. {record['sentence']}",) for line in textwrap.wrap(text, 110)),
        *textwrap.wrap(f"Rule: {record['rule']}.", 110),
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in record["notes"])])


def _gains(record: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    labels = {arm["arm"]: arm["label"] for arm in record["arms"]}
    for row in _differences(record, record["measure"]):
        if row["size"] == record["size"]:
            corrected = _number(row["p_holm"]) if "p_holm" in row else "-"
            yield (
                labels[row["arm"]],
                labels[row["control"]],
                f"{row['gain']:+.4f}",
                f"{row['low']:+.4f} to {row['high']:+.4f}",
                _number(row["p"]),
                corrected,
            )


def _by_class(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the gains of each class over duplicated images, for the arm with the most generated ones."""
    names = [name for name in record["arms"][0]["measures"] if name.startswith(f"{record['measure']}/")]
    ratio = max(record["ratios"])
    for name in names:
        for row in _differences(record, name):
            if (
                row["size"] == record["size"]
                and row["arm"] == f"mixed_{ratio:g}"
                and row["control"] == f"duplicated_{ratio:g}"
            ):
                yield (
                    f"{name}, {ratio:g} generated for each real image, over duplicated ones: {row['gain']:+.4f} "
                    f"({row['low']:+.4f} to {row['high']:+.4f})"
                )
    if names:
        yield ""


def _differences(record: Mapping[str, Any], measure: str) -> list[Mapping[str, Any]]:
    return [row for row in record["differences"] if row["measure"] == measure]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def draw_gains(record: Mapping[str, Any], path: Path) -> Path:
    """Draw the gains over each control against the number of real images, an arm in each line."""
    rows = _differences(record, record["measure"])
    labels = {arm["arm"]: arm["label"] for arm in record["arms"]}
    figure = Figure(figsize=(5 * len(CONTROLS), 3.8), layout="constrained")
    axes = figure.subplots(1, len(CONTROLS), sharey=True)
    for axis, (control, title) in zip(axes, CONTROLS.items(), strict=True):
        own = [row for row in rows if row["control"].split("_")[0] == control]
        arms = list(dict.fromkeys(row["arm"] for row in own))
        for place, arm in enumerate(arms):
            line = [row for row in own if row["arm"] == arm]
            sizes = [row["size"] * 1.04 ** (place - (len(arms) - 1) / 2) for row in line]  # side by side
            gains = [row["gain"] for row in line]
            ends = [[row["gain"] - row["low"] for row in line], [row["high"] - row["gain"] for row in line]]
            axis.errorbar(
                sizes, gains, yerr=ends, marker="o", markersize=4, linewidth=1.2, capsize=2, label=labels[arm]
            )
        axis.axhline(0, color="#8C8C8C", linewidth=1)
        axis.axhline(record["worthwhile"], color="#8C8C8C", linewidth=1, linestyle=":")
        axis.set(title=f"over {title}", xlabel="real images", xscale="log")
        axis.set_xticks(record["sizes"], [f"{size:,}" for size in record["sizes"]])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"gain in {record['measure']}")
    axes[list(CONTROLS).index("real")].legend(fontsize="small")  # the one with all arms
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path
