"""Measure which lesions survive a translation, by their size, for each method at equal processor time.

    uv run scripts/benchmark_lesions.py --out lesions --seconds 100
    uv run scripts/benchmark_lesions.py --table --out lesions

Phantoms of 64 px (CT from an MR-like image, ``data=phantom_pairs``) with lesions of 2.5 to 14 mm radius. Each method
has ``--seconds`` of processor time of one core from the start of its process; its best translator, as selected by the
MAE of the validation images, is measured. Regression and pix2pix learn from pairs; CycleGAN and CUT get each source
with the target of another phantom.
``medsynth evaluate`` then counts, on the same test images, the lesions whose contrast is half of that in the target
without noise, for each translation, the best prediction from the source and the anatomy, and the source copied.

Runs that exist below ``--out`` are not repeated. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from processor_time import ONE_THREAD, run_for

from medsynth.evaluation.translations import KNOWN_IMAGES
from medsynth.generator.trained import FILE

ROOT = Path(__file__).resolve().parent.parent
COMMON = (
    *("data=phantom_pairs", "data.source.classes=[one_lesion,several_lesions]", "data.source.lesion_radius=[2.5,14]"),
    *("data.source.num_images=1000", "data.source.num_val=60", "data.source.num_test=400", "trainer.accelerator=cpu"),
    *("trainer.precision=32-true", "max_images=10000000", "val_every_images=500", "doctor.enabled=false"),
    *("report=false", "generator=unet", "generator.width=16", "generator.levels=4", "generator_optimizer.lr=1e-3"),
    "task.ema_half_life=500",
)
UNPAIRED = ("data.source.paired=false",)
METHODS = {
    "regression": ("task=regression",),
    "pix2pix": ("task=paired_translation",),
    "pix2pix, projected": (
        *("task=paired_translation", "discriminator=projected", "backbone=efficientnet_lite0", "loss=hinge"),
        *("augment=none", "val_every_images=200"),  # it sees fewer images than others validate after
    ),
    "CycleGAN": ("task=unpaired_translation", *UNPAIRED),
    "CUT": ("task=cut", *UNPAIRED),
}


def train(method: str, run: Path, seconds: float) -> None:
    """Train a method for so many seconds of processor time."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with (run.parent / f"{run.name}.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, str(ROOT / "train.py"), *COMMON, *METHODS[method], f"hydra.run.dir={run}"]
        run_for(command, seconds, log=log)


def evaluated(run: Path) -> dict[str, Any]:
    """Return what ``medsynth evaluate`` says of a run's translations of the test images."""
    command = [sys.executable, "-m", "medsynth", "evaluate", f"run={run}", "split=test", "extractor=pixels", "pairs=20"]
    subprocess.run([*command, "cache=false", "device=cpu"], check=True, env=os.environ | ONE_THREAD, stdout=sys.stderr)
    return json.loads((run / "evaluation" / f"{Path(FILE).stem}.json").read_text("utf-8"))["translation"]


def table(out: Path) -> None:
    """Print a row for each method, and for what translations are compared with."""
    records = {method: evaluated(run) for method in METHODS if ((run := folder(out, method)) / FILE).is_file()}
    if not records:
        raise SystemExit(f"There is no run below {out}: leave out --table.")
    first = next(iter(records.values()))
    rows = {name: ("", first, name) for name in KNOWN_IMAGES}
    for method, record in records.items():
        seen = json.loads((folder(out, method) / "summary.json").read_text("utf-8"))["images_seen"]
        rows[method] = (f"{seen:,}", record, "translation")
    sizes = [row for row in first["lesions"] if row["of"] == KNOWN_IMAGES[0]]
    titles = [f"{size(row)} ({row['lesions']:,})" for row in sizes]
    print(f"| in | images seen | MAE, {first['unit']} | {' | '.join(titles)} |")
    print("|---" * (3 + len(titles)) + "|")
    for name, (seen, record, of) in rows.items():
        recalls = [interval(row) for row in record["lesions"] if row["of"] == of]
        print(f"| {name} | {seen} | {error(record, name)} | {' | '.join(recalls)} |")


def error(record: Mapping[str, Any], name: str) -> str:
    """Return the mean absolute error of a row, where it is measured."""
    mae = next(row for row in record["measures"] if row["name"] == "mae")
    if name in METHODS:
        return interval(mae)
    return interval(mae, "copy_") if name == "source copied" else ""


def interval(row: Mapping[str, Any], prefix: str = "") -> str:
    """Return a value with its 95 % interval."""
    value, low, high = (row[f"{prefix}{end}"] for end in ("value", "low", "high"))
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def size(row: Mapping[str, Any]) -> str:
    """Return the radii of a row's lesions."""
    low, high = row["smallest_radius"], row["largest_radius"]
    return f"{low:g} mm and more" if high is None else f"{low:g} to {high:g} mm"


def folder(out: Path, method: str) -> Path:
    """Return the folder of a method's run."""
    return out / method.replace(", ", "_")


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--table", action="store_true", help="print the table of the runs that exist")
    options = parser.parse_args()
    for method in () if options.table else options.methods:
        run = folder(options.out.resolve(), method)
        if not (run / FILE).is_file():
            train(method, run, options.seconds)
    table(options.out.resolve())


if __name__ == "__main__":
    main()
