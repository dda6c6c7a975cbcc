"""Measure whether ``medsynth utility`` is right, where the truth is known: on phantoms.

    uv run scripts/benchmark_utility.py run --out utility.jsonl            # all that is missing; may be interrupted
    uv run scripts/benchmark_utility.py run --out utility.jsonl --cases memorizer --repetitions 3
    uv run scripts/benchmark_utility.py table --out utility.jsonl          # what there is so far, in Markdown
    uv run scripts/benchmark_utility.py coverage                           # of the intervals, by simulation
    uv run scripts/benchmark_utility.py keypoints --hippocampus hippocampus_nifti_60.zip     # localization errors

Each repetition is a comparison with its own draw of 6,000 phantoms, heads at 32 px, half of them with a hemorrhage: 40
training images, 500 test images, a linear layer on ImageNet features (EfficientNet-Lite0 at 64 px), all arms, 6 seeds.
The cases differ in the generator:

* memorizer: it emits training images, drawn at random. No arm can gain.
* honest: it emits other phantoms. The gain is that of more real images, which is measured beside it: the arm 1:5 with
  further phantoms, called real, in the place of the generated ones.

A false gain over duplication is an arm with generated images whose 95 % interval of the gain over duplicated real
images is above 0 after Holm's correction over the arms. The answer is that of the rule, which asks for more.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from row_file import append_rows, read_rows
from scipy import stats

from medsynth.data.phantom.source import LANDMARKS, Phantoms
from medsynth.evaluation.answers import holm
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.interval import share_interval
from medsynth.utility.arms import MIXED, Arm, mixed_order
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.classification import LinearProbe, Network
from medsynth.utility.fit import Fit
from medsynth.utility.job import Job, run_job
from medsynth.utility.keypoints import KeyPoints, points_of_masks
from medsynth.utility.sets import Options, Sets
from medsynth.utility.statistics import GROUPS, image_groups, measured
from medsynth.utility.study import compare, prepare

CASES = ("memorizer", "honest")
CLASSES = ("healthy", "one_lesion")
BANK, SIZE, TEST, SEEDS = 6000, 40, 500, 6
NETWORK = Network("tf_efficientnet_lite0", "packaged", 64)
OPTIONS = Options(fit=Fit(steps=100, learning_rate=1e-2), sizes=(SIZE,), seeds=SEEDS)
MORE = Arm(MIXED, max(OPTIONS.ratios))


class Bank:
    """Phantoms with their images and features, which repetitions draw from, kept in a file."""

    def __init__(self, path: Path):
        source = Phantoms(image_size=32, anatomies="head", classes=CLASSES)
        if not path.exists():
            images = np.stack([source.image("train", number) for number in range(BANK)])[:, None].astype(np.float16)
            of_bank = ImageSet("bank", BANK, lambda numbers: torch.from_numpy(images[list(numbers)]).float())
            features = LinearProbe(NETWORK, CLASSES, augmentation=Augmentation()).encode(of_bank, augmented=False)
            np.savez(path, images=images, features=features[:, 0])
        with np.load(path) as kept:
            self.images, self.features = kept["images"], kept["features"]

    def draw(self, name: str, numbers: np.ndarray) -> ImageSet:
        """Return phantoms by number; their classes take turns."""

        def read(rows: Sequence[int]) -> torch.Tensor:
            return torch.from_numpy(self.images[numbers[list(rows)]]).float()

        return ImageSet(name, len(numbers), read, numbers % len(CLASSES), {"numbers": numbers.tolist()})


class BankProbe(LinearProbe):
    """A probe that takes the features of images themselves from kept ones."""

    def __init__(self, bank: Bank):
        super().__init__(NETWORK, CLASSES, augmentation=Augmentation(), views=4)
        self.bank = bank

    def encode(self, images: ImageSet, *, augmented: bool) -> np.ndarray:
        """Return features, see ``LinearProbe``."""
        if augmented:
            return super().encode(images, augmented=True)
        assert images.key is not None
        return self.bank.features[images.key["numbers"]][:, None]


def repetition(case: str, number: int, bank: Bank) -> dict[str, Any]:
    """Compare once; return a row of plain values."""
    started = time.perf_counter()
    order = mixed_order(np.arange(BANK) % len(CLASSES), None, BANK, seed=number)
    pool = SIZE * SEEDS * round(MORE.ratio)
    real, tested, new, more = np.split(order[: SIZE + TEST + 2 * pool], np.cumsum([SIZE, TEST, pool]))
    if case == "memorizer":
        new = real[np.random.default_rng(number).integers(0, SIZE, pool)]
    sets = Sets(bank.draw("training", real), bank.draw("test", tested), bank.draw("generated", new))
    result = compare(sets, BankProbe(bank), OPTIONS).to_dict()
    deciding = [d for d in result["differences"] if d["measure"] == OPTIONS.measure and d["arm"].startswith(MIXED)]
    row = {
        "case": case,
        "repetition": number,
        "answer": result["answer"],
        "over_duplicated": [_shown(d) for d in deciding if d["control"].startswith("duplicated")],
        "gains": [_shown(d) for d in deciding],
        "arms": {a["arm"]: a["measures"][OPTIONS.measure]["value"] for a in result["arms"]},
    }
    if case == "honest":
        others = dataclasses.replace(sets, synthetic=bank.draw("more", more))
        row["generated_minus_more_real"] = _difference(sets, others, bank)
    return row | {"seconds": time.perf_counter() - started}


def _shown(difference: dict[str, Any]) -> dict[str, Any]:
    return {name: difference[name] for name in ("arm", "control", "gain", "low", "high", "p")}


def _difference(sets: Sets, others: Sets, bank: Bank) -> dict[str, float]:
    """Return the gain of generated images over as many more real ones, with its interval."""
    tables = []
    for given in (sets, others):
        material = prepare(given, BankProbe(bank), OPTIONS)
        rows = [run_job(Job(MORE, SIZE, seed), material) for seed in range(SEEDS)]
        values = np.array([row["values"][OPTIONS.measure] for row in rows])
        tables.append((values, np.array([row["without"][OPTIONS.measure] for row in rows])))
    return dataclasses.asdict(measured(tables[0][0] - tables[1][0], tables[0][1] - tables[1][1]))


def run(out: Path, cases: Sequence[str], repetitions: int) -> None:
    """Run the repetitions that have no row yet, the cases in turn."""
    bank = Bank(out.with_suffix(".npz"))
    done = {(row["case"], row["repetition"]) for row in read_rows(out)}
    for number in range(repetitions):
        for case in cases:
            if (case, number) not in done:
                row = repetition(case, number, bank)
                append_rows(out, row)
                print(case, number, row["answer"], f"{row['seconds']:.0f} s", flush=True)


def table(out: Path) -> str:
    """Return the results of all rows as a table in Markdown."""
    lines = [
        "| generator | repetitions | yes | no | not shown | a gain over duplication | mean gain 1:5 over duplication | "
        "interval of generated - more real holds 0 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = read_rows(out)
    for case in CASES:
        own = [row for row in rows if row["case"] == case]
        if own:
            answers = [row["answer"] for row in own]
            counts = " | ".join(str(answers.count(name)) for name in ("yes", "no", "not shown"))
            gains = _share([_gain_found(row) for row in own])
            mean = np.mean([row["over_duplicated"][-1]["gain"] for row in own])
            equal = [row["generated_minus_more_real"] for row in own if "generated_minus_more_real" in row]
            holds = _share([e["low"] <= 0 <= e["high"] for e in equal]) if equal else "-"
            lines.append(f"| {case} | {len(own)} | {counts} | {gains} | {mean:+.4f} | {holds} |")
    return "\n".join(lines)


def _gain_found(row: dict[str, Any]) -> bool:
    gains = row["over_duplicated"]
    return any(p < 0.05 and g["gain"] > 0 for p, g in zip(holm([g["p"] for g in gains]), gains, strict=True))


def _share(found: Sequence[bool]) -> str:
    share = float(np.mean(found))
    estimate = share_interval(share, len(found), share * (1 - share) / len(found))
    return f"{sum(found)} of {len(found)} ({estimate.low:.2f} to {estimate.high:.2f})"


def coverage(repetitions: int) -> str:
    """Return how often the interval of a difference of accuracies holds its expectation, as a table in Markdown.

    Right decisions of two networks on an image are those of correlated normal numbers with parts of the image, the
    seed, both networks and their interactions; images of one patient share a part. The expected difference is known.
    """
    lines = [
        "| seeds | images | patients | spread of seeds | true difference | coverage |",
        "|---|---|---|---|---|---|",
    ]
    random = np.random.default_rng(0)
    for seeds, images, patients in ((5, 400, 400), (5, 100, 100), (3, 400, 400), (10, 400, 400), (5, 400, 40)):
        for spread in (0.0, 0.2):
            for shift in (0.0, 0.3):
                held, truth = _held(random, seeds, images, patients, spread, shift, repetitions)
                lines.append(f"| {seeds} | {images} | {patients} | {spread} | {truth:.3f} | {held:.3f} |")
    return "\n".join(lines)


def _held(random: Any, seeds: int, images: int, patients: int, spread: float, shift: float, count: int) -> tuple:
    patient = np.arange(images) % patients
    member = np.eye(GROUPS)[image_groups(None, patient, images)]
    deviation = (1 + 0.5 + 0.3 + 0.3 + spread**2) ** 0.5
    truth = float(stats.norm.cdf((0.8 + shift) / deviation) - stats.norm.cdf(0.8 / deviation))
    held = 0
    for _ in range(count):
        of_patient = random.normal(0, 0.5**0.5, patients)[patient] + random.normal(0, 0.3**0.5, images)
        right = []
        for mean in (0.8, 0.8 + shift):
            own = random.normal(0, 0.3**0.5, images) + random.normal(0, spread, (seeds, 1))
            right.append(mean + of_patient + own + random.normal(0, 1, (seeds, images)) > 0)
        difference = right[1].astype(float) - right[0]
        without = (difference.sum(axis=1, keepdims=True) - difference @ member) / (images - member.sum(axis=0))
        interval = measured(difference.mean(axis=1), without)
        held += interval.low <= truth <= interval.high
    return held / count, truth


def of_arrays(name: str, images: np.ndarray, groups: np.ndarray | None = None) -> ImageSet:
    """Return images (N, H, W) in [-1, 1] as a set."""
    kept = torch.from_numpy(images[:, None]).float()
    return ImageSet(name, len(kept), lambda numbers: kept[list(numbers)], groups=groups)


def phantom_points(known: bool) -> tuple[Sets, tuple[str, ...]]:
    """Return 40 training, 200 test and 400 generated phantoms of one lesion at 32 px; these are honest samples.

    Args:
        known: the generated images have their key points; else pseudo-labels.
    """
    source = Phantoms(image_size=32, anatomies="head", classes="one_lesion")
    splits = (("train", 40), ("test", 200), ("val", 400))
    images = [np.stack([source.image(split, number) for number in range(count)]) for split, count in splits]
    points = [np.stack([source.landmarks(split, number) for number in range(count)]) for split, count in splits]
    sets = [of_arrays(split, own) for (split, _), own in zip(splits, images, strict=True)]
    return Sets(*sets, targets=(points[0], points[1], points[2] if known else None)), LANDMARKS


def hippocampus_points(archive: Path) -> tuple[Sets, tuple[str, ...]]:
    """Return sagittal slices of three times 20 patients, for training (2 of each), for tests and as generated ones.

    The latter are real slices of other patients without their labels. Key points are the centers of the anterior and
    the posterior part, of slices that show both.
    """
    slices: list[list[tuple[np.ndarray, np.ndarray]]] = []
    with zipfile.ZipFile(archive) as opened:
        labels = sorted(name for name in opened.namelist() if "label" in name and name.endswith((".nii", ".nii.gz")))
        for name in labels:
            mask = _volume(opened.read(name))
            image = _volume(opened.read(name.replace("labels", "images")))
            low, high = np.percentile(image, (1, 99))
            scaled = np.clip((image - low) / (high - low), 0, 1) * 2 - 1
            both = [n for n in range(len(mask)) if {1, 2} <= set(np.unique(mask[n]).tolist())]
            slices.append([(_square(scaled[n], -1.0), _square(mask[n], 0)) for n in both])
    parts = [slices[start : start + 20] for start in (0, 20, 40)]
    parts[0] = [own[:: max(len(own) // 2, 1)][:2] for own in parts[0]]
    sets, points = [], []
    for name, part in zip(("training", "test", "generated"), parts, strict=True):
        pairs = [(patient, *pair) for patient, own in enumerate(part) for pair in own]
        images, masks = (np.stack([pair[place] for pair in pairs]) for place in (1, 2))
        sets.append(of_arrays(name, images, np.array([pair[0] for pair in pairs])))
        points.append(points_of_masks(masks, (1, 2)))
    return Sets(*sets, targets=(points[0], points[1], None)), ("anterior", "posterior")


def _volume(content: bytes) -> np.ndarray:
    compressed = content[:2] == b"\x1f\x8b"
    volume = nibabel.Nifti1Image.from_bytes(gzip.decompress(content) if compressed else content)
    return np.asarray(nibabel.as_closest_canonical(volume).dataobj)


def _square(plane: np.ndarray, fill: float) -> np.ndarray:
    """Return a plane (y, z) as an image of 48 x 48 pixels, cropped and padded around its middle."""
    image = np.full((48, 48), fill, dtype=np.float32)
    turned = plane.T[::-1][:48, :48]
    top, left = ((48 - size) // 2 for size in turned.shape)
    image[top : top + turned.shape[0], left : left + turned.shape[1]] = turned
    return image


def keypoints(hippocampus: Path | None, seeds: int) -> Iterator[str]:
    """Yield the localization errors of all arms, and the gains over duplication, as tables in Markdown."""
    problems = {
        "phantoms, generated images with their points": phantom_points(known=True),
        "phantoms, generated images with pseudo-labels": phantom_points(known=False),
    }
    if hippocampus is not None:
        problems["hippocampus, other patients' slices with pseudo-labels"] = hippocampus_points(hippocampus)
    for title, (sets, names) in problems.items():
        task = KeyPoints(names, augmentation=Augmentation(), width=4)
        largest = min(5.0, sets.synthetic.count // sets.training.count)
        options = Options(
            fit=Fit(100, 8, 1e-2),
            seeds=seeds,
            sizes=(sets.training.count,),
            ratios=(largest,),
            measure="localization_error",
            worthwhile=0.1,
        )
        record = compare(sets, task, options).to_dict()
        counts = ", ".join(f"{record[side]['count']} {side}" for side in ("training", "test", "synthetic"))
        lines = [
            f"{title} ({counts}): {record['answer']}",
            "",
            "| arm | error in pixels | interval |",
            "|---|---|---|",
        ]
        for arm in record["arms"]:
            value = arm["measures"]["localization_error"]
            lines.append(f"| {arm['label']} | {value['value']:.2f} | {value['low']:.2f} to {value['high']:.2f} |")
        yield "\n".join([*lines, "", *(f"* {reason}" for reason in record["reasons"]), ""])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table", "coverage", "keypoints"))
    parser.add_argument("--out", type=Path, default=Path("utility.jsonl"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--hippocampus", type=Path, help="zip archive with folders images and labels of NIfTI volumes")
    parser.add_argument("--seeds", type=int, default=3, help="of keypoints")
    parser.add_argument("--repetitions", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "run":
        run(arguments.out, arguments.cases, arguments.repetitions)
    elif arguments.action == "keypoints":
        for part in keypoints(arguments.hippocampus, arguments.seeds):
            print(part, flush=True)
    else:
        print(table(arguments.out) if arguments.action == "table" else coverage(1000))


if __name__ == "__main__":
    main()
