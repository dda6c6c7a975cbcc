"""Measure whether ``medsynth utility`` with ``problem=segmentation`` is right, where the truth is known.

    uv run scripts/benchmark_segmentation.py run --out segmentation.jsonl      # all that is missing; may be interrupted
    uv run scripts/benchmark_segmentation.py run --out segmentation.jsonl --hippocampus hippocampus_nifti_60.zip
    uv run scripts/benchmark_segmentation.py table --out segmentation.jsonl    # in Markdown

Each repetition is a comparison with its own phantoms, heads of one lesion at 32 px: 40 training images, 200 test
images, 3 seeds, 5 generated images for each real one, 300 steps of 16 images. The cases differ in the generated images:

* honest: other phantoms with their own masks. The gain is that of more labeled images.
* pseudo-labels: the same phantoms without masks, as ``medsynth utility run=`` has them.
* memorizer: training images with their masks, drawn at random. No arm can gain.
* hippocampus: coronal slices of 21 further patients without their masks, beside two slices each of 19 patients, tested
  on those of 20 others; a single repetition.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from row_file import append_rows, read_rows

from medsynth.configuration.checked_composition import compose_checked
from medsynth.data.label_maps import label_maps
from medsynth.data.phantom.source import Phantoms
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.fit import Fit
from medsynth.utility.segmentation import Segmentation
from medsynth.utility.sets import Options, Sets
from medsynth.utility.study import compare

CASES = ("honest", "pseudo-labels", "memorizer")
SIZE, TEST, SEEDS, RATIO = 40, 200, 3, 5
FIT = Fit(steps=300, batch_size=16, learning_rate=5e-3)
ARMS = ("real", "augmented", f"duplicated_{RATIO}", f"mixed_{RATIO}", "synthetic")


def as_set(name: str, images: np.ndarray, groups: np.ndarray | None = None) -> ImageSet:
    """Return images (N, H, W) in [-1, 1] as a set."""
    kept = torch.from_numpy(images[:, None]).float()
    return ImageSet(name, len(kept), lambda numbers: kept[list(numbers)], groups=groups)


def phantoms(case: str, repetition: int) -> tuple[Sets, tuple[str, ...]]:
    """Return the sets of a case, with phantoms of which each repetition has its own."""
    source = Phantoms(image_size=32, anatomies="head", classes="one_lesion", seed=1000 + repetition)
    counts = {"train": SIZE, "test": TEST, "val": SIZE * RATIO * SEEDS}
    images = {split: np.stack([source.image(split, n) for n in range(count)]) for split, count in counts.items()}
    masks = {split: np.stack([source.lesion_mask(split, n) for n in range(count)]) for split, count in counts.items()}
    if case == "memorizer":
        copied = np.random.default_rng(repetition).integers(0, SIZE, counts["val"])
        images["val"], masks["val"] = images["train"][copied], masks["train"][copied]
    sets = [as_set(split, own) for split, own in images.items()]
    known = None if case == "pseudo-labels" else masks["val"]
    return Sets(sets[0], sets[1], sets[2], targets=(masks["train"], masks["test"], known)), ("lesion",)


def hippocampus(archive: Path) -> tuple[Sets, tuple[str, ...]]:
    """Return coronal slices of 19, 20 and 21 patients for training, tests and as generated ones; two of each first."""
    options = ["data=hippocampus", f"data.root={archive}", "data.val_fraction=0.34", "data.test_fraction=0.33"]
    data = instantiate(compose_checked("train", options).data, _convert_="all")
    data.prepare()
    splits = ("train", "test", "val")
    names, maps = label_maps(data.source, splits)
    sets = []
    for place, split in enumerate(splits):
        rows, patients = data.source.rows[split], data.source.columns["patient"]
        groups = np.unique([patients[row] for row in rows], return_inverse=True)[1]
        shown = np.flatnonzero(maps[place].any(axis=(1, 2)))
        if split == "train":
            of_patients = [shown[groups[shown] == patient] for patient in np.unique(groups)][:20]
            shown = np.concatenate([own[len(own) // 3 :: max(len(own) // 3, 1)][:2] for own in of_patients])
        images = data.source.store.read(np.asarray(rows)[shown])[:, 0].numpy()
        sets.append(as_set(split, images, groups[shown] + 1000 * place))  # patients of splits are others
        maps[place] = maps[place][shown]
    return Sets(sets[0], sets[1], sets[2], targets=(maps[0], maps[1], None)), names


def repetition(case: str, number: int, archive: Path | None) -> dict[str, Any]:
    """Compare once; return a row of plain values."""
    started = time.process_time()
    sets, names = phantoms(case, number) if archive is None else hippocampus(archive)
    task = Segmentation(names, augmentation=Augmentation(), width=8)
    options = Options(fit=FIT, ratios=(RATIO,), sizes=(sets.training.count,), seeds=SEEDS, measure="dice")
    record = compare(sets, task, options).to_dict()
    over = [d for d in record["differences"] if d["arm"] == f"mixed_{RATIO}" and d["control"] == f"duplicated_{RATIO}"]
    return {
        "case": case,
        "repetition": number,
        "counts": [record[side]["count"] for side in ("training", "test", "synthetic")],
        "answer": record["answer"],
        "over_duplicated": {d["measure"]: [d["gain"], d["low"], d["high"]] for d in over},
        "arms": {a["arm"]: {n: m["value"] for n, m in a["measures"].items()} for a in record["arms"]},
        "cpu_seconds": time.process_time() - started,
    }


def run(out: Path, cases: tuple[str, ...], repetitions: int, archive: Path | None) -> None:
    """Run the repetitions that have no row yet."""
    wanted = [(case, number, None) for number in range(repetitions) for case in cases]
    done = {(row["case"], row["repetition"]) for row in read_rows(out)}
    for case, number, given in [*wanted, *([("hippocampus", 0, archive)] if archive else [])]:
        if (case, number) not in done:
            row = repetition(case, number, given)
            append_rows(out, row)
            print(case, number, row["answer"], f"{row['cpu_seconds']:.0f} s", flush=True)


def table(out: Path) -> Iterator[str]:
    """Yield the answers, gains and mean values of all rows as two tables in Markdown."""
    rows = read_rows(out)
    cases = list(dict.fromkeys(row["case"] for row in rows))
    yield "| generated images | repetitions | yes | no | not shown | gain in Dice over duplication, with its interval |"
    yield "|---|---|---|---|---|---|"
    for case in cases:
        own = [row for row in rows if row["case"] == case]
        counts = " | ".join(str(sum(row["answer"] == name for row in own)) for name in ("yes", "no", "not shown"))
        gains = (row["over_duplicated"]["dice"] for row in own)
        listed = "; ".join(f"{gain:+.3f} ({low:+.3f} to {high:+.3f})" for gain, low, high in gains)
        yield f"| {case} | {len(own)} | {counts} | {listed} |"
    yield ""
    yield f"| mean Dice, 95 % Hausdorff distance in pixels | {' | '.join(cases)} |"
    yield "|---|" + "---|" * len(cases)
    for arm in ARMS:
        values = []
        for case in cases:
            own = [row["arms"][arm] for row in rows if row["case"] == case]
            values.append(", ".join(f"{np.mean([one[name] for one in own]):.3g}" for name in ("dice", "hausdorff95")))
        yield f"| {arm} | {' | '.join(values)} |"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--out", type=Path, default=Path("segmentation.jsonl"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--hippocampus", type=Path, help="zip archive with folders images and labels of NIfTI volumes")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "run":
        run(arguments.out, tuple(arguments.cases), arguments.repetitions, arguments.hippocampus)
    else:
        print("\n".join(table(arguments.out)))


if __name__ == "__main__":
    main()
