"""Measure presets at equal processor time on training sets of several sizes: the table from which presets are chosen.

    uv run scripts/measure_presets.py my/images --sizes 200 800 --presets default vision_aided --out presets.jsonl
    uv run scripts/measure_presets.py my/images --sizes 800 --presets default "default penalty.r1.gamma=1" --seeds 0 1 2
    uv run scripts/measure_presets.py --table --out presets.jsonl

``my/images`` is a folder of images of one kind. Exact copies are left out; 1,000 images are for the test, 500 for the
validation (or a fifth and a tenth of a small set), drawn by a fixed seed, and the same for all; the sizes' training
sets are nested. With ``--patients`` each folder of images is a patient, whose images are in one split. A preset is
``default`` or the name of an experiment, with further options behind it.

Each run has ``--seconds`` of processor time of one core from the start of its process; then it is stopped in order, as
by Ctrl-C, unless a ``max_images`` of the preset has ended it before. ``medsynth evaluate`` measures its best generator,
as selected on the validation images, on the test images; with ``--classifier`` in the features of a classifier of real
labels too. One line of JSON for each run is appended to ``--out``; runs that have a line there are not repeated.
``--jobs`` run at a time with a thread each: seconds of processor time, unlike those on the clock, hardly depend on what
runs beside. Needs Linux.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from processor_time import ONE_THREAD, run_for
from row_file import append_rows, read_rows

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = (".png", ".jpg", ".jpeg")
COLUMNS = (
    "fd_mini",
    "precision_mini",
    "recall_mini",
    "fd_pixels",
    "kd_imagenet",
    "precision_imagenet",
    "recall_imagenet",
    "coverage_imagenet",
    "kd_classifier",
    "copies_imagenet",
)
TEST, VALIDATION = (1000, 0.2), (500, 0.1)  # number of images, and the largest part of all


def divide(folder: Path, *, by_patient: bool) -> dict[str, list[Path]]:
    """Return the images of each split, relative to ``folder``, in a random order.

    ``by_patient``: all images of a folder are in one split.
    """
    unique: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            unique.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(folder))
    paths = list(unique.values())
    random.Random(0).shuffle(paths)
    test, validation = (min(number, round(len(paths) * part)) for number, part in (TEST, VALIDATION))
    if by_patient:
        return _divide_patients(paths, test, validation)
    return {
        "test": paths[:test],
        "val": paths[test : test + validation],
        "train": paths[test + validation :],
    }


def _divide_patients(paths: list[Path], test: int, validation: int) -> dict[str, list[Path]]:
    """Divide so that patients are apart, and at least so many images are for the test and the validation."""
    patients = sorted({path.parent for path in paths})
    random.Random(0).shuffle(patients)
    splits: dict[str, list[Path]] = {"test": [], "val": [], "train": []}
    split_of: dict[Path, str] = {}
    sizes = Counter(path.parent for path in paths)
    counts = Counter[str]()
    for patient in patients:
        split = "test" if counts["test"] < test else "val" if counts["val"] < validation else "train"
        counts[split] += sizes[patient]
        split_of[patient] = split
    for path in paths:
        splits[split_of[path.parent]].append(path)
    return splits


def write_table(splits: dict[str, list[Path]], size: int, table: Path) -> int:
    """Write the table of the images, of which ``size`` are for training; return the number of these."""
    rows = [(path, split) for split, paths in splits.items() for path in paths[: size if split == "train" else None]]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "split"), *rows])
    return sum(split == "train" for _, split in rows)


def train(overrides: list[str], folder: Path, seconds: float) -> None:
    """Train until the process has used ``seconds`` of processor time."""
    command = [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={folder}", "report=false"]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        run_for(command, seconds, log=log)


def evaluate(folder: Path, classifier: Path | None) -> dict[str, Any]:
    """Return the record of ``medsynth evaluate``, in the features of a classifier too if its weights are given."""
    record = folder / "evaluation.json"
    environment = {**os.environ, **ONE_THREAD}
    command = [sys.executable, "-m", "medsynth", "evaluate", f"run={folder}", f"out={record}"]
    if classifier:
        command += [
            "extractor=[mini,pixels,imagenet,classifier]",
            f"extractor.classifier.backbone.weights={classifier}",
        ]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads(record.read_text())


def measure(key: dict[str, Any], table: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one run; return its row."""
    name, *overrides = key["preset"].split()
    overrides = [
        "data=csv",
        f"data.root={options.images.resolve()}",
        f"data.reader.table={table}",
        f"data.image_size={options.image_size}",
        f"seed={key['seed']}",
        "max_images=100000000",
        f"val_every_images={options.val_every_images}",
        *([] if name == "default" else [f"experiment={name}"]),
        *overrides,
    ]
    train(overrides, folder, options.seconds)
    summary = json.loads((folder / "summary.json").read_text())
    if summary["code"] not in ("interrupted", "completed") or "best" not in summary:
        sys.exit(f"{' '.join(overrides)}: {summary['reason']}")
    record = evaluate(folder, options.classifier)
    return {
        **key,
        "images_seen": summary["images_seen"],
        "best_images_seen": summary["best"]["images_seen"],
        "machine": _processor(),
        "measures": {
            one["name"]: {key: _short(one[key]) for key in ("value", "low", "high", "baseline")}
            for one in record["measures"]
        },
    }


def _processor() -> str:
    """Return the processor's name, on which seconds of its time depend."""
    fields = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    return next((value.strip() for name, _, value in fields if name.strip() == "model name"), platform.machine())


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table in Markdown, with the baselines of each set and size in a row of their own."""
    columns = [name for name in COLUMNS if any(name in row["measures"] for row in rows)]
    heads = ["set", "training images", "seconds", "composition", "seed", "images seen", *columns]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    rows = sorted(
        rows, key=lambda row: (row["images"], row["train_images"], row["seconds"], row["preset"], row["seed"])
    )
    for place, row in enumerate(rows):
        same = [row[key] for key in ("images", "train_images")]
        if not place or same != [rows[place - 1][key] for key in ("images", "train_images")]:
            _print_row([same[0], f"{same[1]:,}", "", "real images", "", ""], row, columns, "baseline")
        composition, seen = f"`{row['preset']}`", f"{row['images_seen']:,}"
        _print_row(["", "", f"{row['seconds']:g}", composition, str(row["seed"]), seen], row, columns, "value")


def _print_row(cells: list[str], row: dict[str, Any], columns: list[str], key: str) -> None:
    measures = [row["measures"].get(name, {}).get(key) for name in columns]
    print(f"| {' | '.join([*cells, *('' if value is None else f'{value:.3g}' for value in measures)])} |")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--patients", action="store_true", help="each folder of images is a patient, of one split")
    parser.add_argument("--table", action="store_true", help="print the rows of --out as a table, and measure nothing")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 800, 3000, 10000], help="training images")
    parser.add_argument("--presets", nargs="+", default=["default"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=300, help="processor time of each training")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--val-every-images", type=int, default=4000)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("presets.jsonl"))
    parser.add_argument(
        "--classifier", type=Path, help="weights of medsynth pretrain, to measure in their features too"
    )
    parser.add_argument("--keep", type=Path, help="a folder that keeps the runs")
    return parser


def main() -> None:
    """Measure every preset at every size with every seed."""
    parser = _parser()
    options = parser.parse_args()
    done = read_rows(options.out)
    if options.table:
        print_table(done)
        return
    if options.images is None:
        parser.error("name a folder of images")
    splits, lock = divide(options.images, by_patient=options.patients), threading.Lock()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True, parents=True)

        def run(number: int, size: int, seed: int, preset: str) -> None:
            table = folder / f"{size}.csv"
            key = {
                "preset": preset,
                "train_images": min(size, len(splits["train"])),
                "image_size": options.image_size,
                "seed": seed,
                "seconds": options.seconds,
                "images": options.images.name,
            }
            if any(key.items() <= row.items() for row in done):
                return
            row = measure(key, table, folder / f"{options.images.name}_{size}_{seed}_{number}", options)
            with lock:
                append_rows(options.out, row)
            print(row["preset"], size, seed, f"{row['images_seen']:,} images", flush=True)

        for size in options.sizes:
            write_table(splits, size, folder / f"{size}.csv")
        with ThreadPoolExecutor(options.jobs) as pool:
            jobs = [
                pool.submit(run, number, size, seed, preset)
                for seed in options.seeds
                for size in options.sizes
                for number, preset in enumerate(options.presets)
            ]
            for job in jobs:
                job.result()


if __name__ == "__main__":
    main()
