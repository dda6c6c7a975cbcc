"""Records of ``medsynth utility`` as text for the terminal, and as a figure of gain against real-set size."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medsynth.files import replacing
from medsynth.terminal import Styled, answer, finding, line_width, painted, table

_WIDTH = 110  # characters of a sentence in a line
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
        *table(
            ("trained on", "images", *(title for name in shown for title in (name, "95 % interval"))),
            [(arm["label"], f"{arm['count']:,}", *_values(arm, shown)) for arm in arms],
        ),
        f"{record['better'].capitalize()} is better; the baseline is the arm of real images alone.",
        "",
        f"Gains in {measure} with {size:,} real images, 95 % intervals over seeds and test images",
        *table(("arm", "over", "gain", "interval", "p", "p, Holm"), _gains(record), left=(0, 1)),
        "",
        *_by_class(record),
        f"Useful: {painted(answer(record['answer']))}.",
        *textwrap.wrap(record["sentence"], line_width(_WIDTH)),
        *textwrap.wrap(f"Rule: {record['rule']}.", line_width(_WIDTH)),
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
                _signed(row),
                f"{row['low']:+.4f} to {row['high']:+.4f}",
                _number(row["p"]),
                corrected,
            )


def _values(arm: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        measure = arm["measures"][name]
        yield _number(measure["value"])
        yield f"{_number(measure['low'])} to {_number(measure['high'])}"


def _signed(row: Mapping[str, Any]) -> str:
    """Format a gain; one whose interval holds no 0 has a color."""
    text = f"{row['gain']:+.4f}"
    if row["low"] > 0:
        return Styled(text, "green")
    return finding(text) if row["high"] < 0 else text


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
