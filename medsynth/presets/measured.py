"""The rows of measured_presets.jsonl, and comparisons of today's compositions in them.

``scripts/measure_presets.py`` has measured them (docs/presets.md). This file imports no heavy library.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

ROWS = Path(__file__).with_name("measured_presets.jsonl")
DEFAULT, SMALL_DATA, PROJECTED = "default", "vision_aided", "projected_small_data"
CANDIDATES = (DEFAULT, SMALL_DATA)  # compositions of today that the advisor chooses from
NOT_COMPARED = {
    "phantoms",  # drawn by a program; advice is for images of patients
    "hippocampus_patients",  # on a slower processor than the others, where equal time is fewer images
}
POOR = 3.0  # times the best composition's distance, from which on a composition is called poor
_NAMES = {"HeadCT": "head CT slices", "hippocampus": "MR slices of the hippocampus"}


@dataclasses.dataclass(frozen=True)
class Aim:
    """A purpose of a training, and the measure by which the rows are compared for it.

    Attributes:
        measure: its key in the rows.
        words: the measure in words.
        higher: higher values are better.
    """

    measure: str
    words: str
    higher: bool


AIMS = {
    "appearance": Aim("kd_imagenet", "kernel distance to real images in ImageNet features", higher=False),
    "variety": Aim("recall_mini", "recall (the part of real images that generated ones surround)", higher=True),
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Values of one measure at one number of training images.

    Attributes:
        train_images: their number.
        sets: names of the image sets, in words.
        values: composition -> mean over sets of the mean over seeds.
        baseline: the same measure of real images against others.
    """

    train_images: int
    sets: tuple[str, ...]
    values: Mapping[str, float]
    baseline: float

    def best(self, aim: Aim) -> str:
        """Return the better one of the candidates."""
        return (max if aim.higher else min)(CANDIDATES, key=lambda name: self.values[name])


def compare(count: int, aim: Aim, also: str | None = None) -> Comparison | None:
    """Compare the candidates at the measured number of training images that is nearest to ``count``, as a ratio.

    Args:
        count: training images.
        aim: what is compared.
        also: a further composition that has to be measured there; None where no number of images has it.
    """
    named = (*CANDIDATES, *([also] if also else ()))
    measured: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in _rows():
        if row["preset"] in named and row["images"] not in NOT_COMPARED:
            measured[row["train_images"], row["images"]].append(row)
    complete = {key: rows for key, rows in measured.items() if {row["preset"] for row in rows} >= set(named)}
    if not complete:
        return None
    nearest = min((n for n, _ in complete), key=lambda n: abs(math.log(n / max(1, count))))
    rows = [row for (n, _), found in complete.items() if n == nearest for row in found]
    sets = sorted({row["images"] for row in rows})
    values = {name: _mean(aim.measure, [row for row in rows if row["preset"] == name]) for name in named}
    baseline = fmean(row["measures"][aim.measure]["baseline"] for row in rows)
    return Comparison(nearest, tuple(_NAMES.get(str(name), str(name)) for name in sets), values, baseline)


def poor(discriminator: str, count: int) -> str | None:
    """Return one sentence of advice where a discriminator is known to be poor for so many training images, else None.

    Args:
        discriminator: the name of its choice, such as ``projected``.
        count: training images.
    """
    preset, aim = {"projected": PROJECTED}.get(discriminator), AIMS["appearance"]
    found = compare(count, aim, also=preset) if preset else None
    if preset is None or found is None:
        return None
    value, best = found.values[preset], found.best(aim)
    if value < POOR * found.values[best]:
        return None
    return (
        f"discriminator={discriminator} was far from real images in equal time, {found.train_images:,} training images "
        f"of {' and '.join(found.sets)}: {aim.words} {value:.2g}, of experiment=small_data {found.values[best]:.2g}; "
        "medsynth start proposes a composition for your images."
    )


def _mean(measure: str, rows: Iterable[Mapping[str, Any]]) -> float:
    by_set: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_set[row["images"]].append(row["measures"][measure]["value"])
    return fmean(fmean(values) for values in by_set.values())


@functools.cache
def _rows() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in ROWS.read_text().splitlines())
