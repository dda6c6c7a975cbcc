"""Measure how often the verdict refuses generators that lie, for the right reason, and honest ones.

    uv run scripts/benchmark_verdict.py --out verdicts.jsonl                                # phantoms
    uv run scripts/benchmark_verdict.py --images my/classes --out verdicts.jsonl            # a folder for each class
    uv run scripts/benchmark_verdict.py --out verdicts.jsonl --table

Six generators that lie: ``memorizer`` (training images with weak noise), ``blurrer``, ``one_mode`` (one image, moved
and scaled in contrast), ``label_shuffler``, ``split_biased`` (images of the test split with weak noise), ``evaluator``
(blurred images, optimized for the features that the embedded extractor has of real ones). Three honest samplers:
``fresh`` (images of the source that nobody has seen), ``mirrored`` (half of them mirrored), ``few`` (300 of them).

Of each seed, 900 training, 450 test and 450 generated images of 32 pixels are drawn anew. One line of JSON for each
verdict is appended to ``--out``; what has a line is not repeated. A liar is refused for the right reason where the
answer that its lie is about is "no"; an honest sampler is refused where any of the answers is "no".
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from row_file import append_rows, read_rows
from shares import share
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from medsynth.audit.audit import audit
from medsynth.configuration.checked_composition import compose_checked
from medsynth.contracts import counter_seed
from medsynth.data.phantom.source import Phantoms
from medsynth.evaluation.answers import NO, NOT_SHOWN, YES
from medsynth.evaluation.evaluate import evaluate_sets
from medsynth.evaluation.evaluation_sets import EvaluationSets
from medsynth.metrics.feature_store import FeatureStore, features_folder
from medsynth.metrics.image_set import ImageSet
from medsynth.verdict.verdict import verdict

SIZE = 32
TRAINING, TEST, GENERATED = 900, 450, 450  # images
COPY_NOISE = 0.005  # standard deviation, of a range of 2
FEW = 300
STEPS = 60  # of the optimization against the evaluator

Images = tuple[Tensor, np.ndarray]  # (N, 1, 32, 32) in [-1, 1], labels


class Source:
    """Real images of one seed: training, test, and images that nobody has seen."""

    def __init__(self, name: str, draw: Callable[[str, int, int], Images], class_names: Sequence[str], seed: int):
        self.name, self.class_names, self.seed = name, tuple(class_names), seed
        self.training, self.test, self.unseen = (
            draw(split, count, seed) for split, count in (("train", TRAINING), ("test", TEST), ("unseen", GENERATED))
        )
        self.key = [name, seed, hashlib.sha256(self.training[0].numpy().tobytes()).hexdigest()]
        self.noise = torch.Generator().manual_seed(counter_seed("verdict", seed) % 2**63)

    def with_noise(self, images: Tensor) -> Tensor:
        """Add weak noise."""
        return (images + COPY_NOISE * torch.randn(images.shape, generator=self.noise)).clamp(-1, 1)


def phantoms(split: str, count: int, seed: int) -> Images:
    """Draw phantoms of heads, three classes in turn."""
    source = Phantoms(image_size=SIZE, seed=1000 + seed)
    images = np.stack([source.image(split, index) for index in range(count)])
    return torch.from_numpy(images)[:, None], np.arange(count) % 3


def memorizer(source: Source) -> Images:
    """Return training images with weak noise."""
    chosen = np.arange(GENERATED) * TRAINING // GENERATED
    images, labels = source.training
    return source.with_noise(images[chosen]), labels[chosen]


def blurrer(source: Source) -> Images:
    """Return blurred images."""
    images, labels = source.unseen
    return gaussian_blur(images, [7, 7], [1.0, 1.0]), labels


def one_mode(source: Source) -> Images:
    """Return one image, moved by a pixel and scaled in contrast."""
    images, labels = source.unseen
    shifts = torch.randint(-1, 2, (GENERATED, 2), generator=source.noise)
    gains = 1 + 0.05 * torch.randn(GENERATED, generator=source.noise)
    moved = [images[0].roll(tuple(s.tolist()), (-2, -1)) * g for s, g in zip(shifts, gains, strict=True)]
    return source.with_noise(torch.stack(moved)), labels


def label_shuffler(source: Source) -> Images:
    """Return images with the labels of others."""
    images, labels = source.unseen
    return images, np.random.default_rng(source.seed).permutation(labels)


def split_biased(source: Source) -> Images:
    """Return test images with weak noise."""
    images, labels = source.test
    return source.with_noise(images[:GENERATED]), labels[:GENERATED]


def evaluator(source: Source) -> Images:
    """Move blurred images until their features are those of images that nobody has seen, one by one."""
    extractor = instantiate(_evaluation().extractor.mini, _convert_="all").eval().requires_grad_(False)
    images, labels = source.unseen
    goal = extractor(images)
    moved = gaussian_blur(images, [7, 7], [1.5, 1.5]).requires_grad_(True)
    optimizer = torch.optim.Adam([moved], lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.mse_loss(extractor(moved), goal, reduction="sum").backward()
        optimizer.step()
        with torch.no_grad():
            moved.clamp_(-1, 1)
    return moved.detach(), labels


def fresh(source: Source) -> Images:
    """Return images that nobody has seen."""
    return source.unseen


def mirrored(source: Source) -> Images:
    """Return images that nobody has seen, every other one mirrored."""
    images, labels = source.unseen
    return torch.cat([images[0::2].flip(-1), images[1::2]]), np.concatenate([labels[0::2], labels[1::2]])


def few(source: Source) -> Images:
    """Return fewer images that nobody has seen."""
    images, labels = source.unseen
    return images[:FEW], labels[:FEW]


LIARS = {  # and the answer that the lie is about
    memorizer: "private",
    blurrer: "faithful",
    one_mode: "faithful",
    label_shuffler: "faithful",
    split_biased: "faithful",
    evaluator: "faithful",
}
HONEST = (fresh, mirrored, few)


@functools.cache
def _evaluation() -> DictConfig:
    """Return the options of the evaluation: three extractors, the network of ImageNet at 64 pixels."""
    extractors = ["extractor=[mini,pixels,imagenet]", "extractor.imagenet.backbone.input_size=64"]
    return compose_checked("evaluate", [*extractors, f"data.image_size={SIZE}", "data.channels=1", "device=cpu"])


def measure(name: str, images: Images, source: Source) -> dict[str, Any]:
    """Return the line of one verdict."""
    start = time.process_time()
    real = {"reference": source.test, "training": source.training}
    held = {key: _set(key, side, {"verdict": source.key, "side": key}) for key, side in real.items()}
    fake = _set("generated", images, None)
    sources = ("real images", name)
    sets = EvaluationSets(
        held["reference"], fake, held["training"], source.class_names, sources, (), SIZE, images[0].shape[1]
    )
    evaluation = evaluate_sets(sets, _evaluation()).to_dict()
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), cache=features_folder(), batch_size=64, device=torch.device("cpu"))
        extractor = instantiate(_evaluation().extractor.mini, _convert_="all").eval().requires_grad_(False)
        audited = audit(
            held["training"], held["reference"], fake, store=store, extractors={"mini": extractor}
        ).to_dict()
    found = verdict(evaluation, None, audited)
    return {
        "sampler": name,
        "images": source.name,
        "seed": source.seed,
        "answers": {question: found[question].answer for question in ("faithful", "private")},
        "reasons": {question: list(found[question].reasons[:2]) for question in ("faithful", "private")},
        "seconds": round(time.process_time() - start, 1),
    }


def _set(name: str, images: Images, key: dict[str, Any] | None) -> ImageSet:
    pixels, labels = images
    return ImageSet(name, len(pixels), lambda numbers: pixels[list(numbers)], labels, key)


def folders(root: Path) -> Callable[[str, int, int], Images]:
    """Return a function that draws images of a folder for each class, those of each split and seed others."""
    paths = [sorted(folder.glob("*.*")) for folder in sorted(root.iterdir()) if folder.is_dir()]

    def draw(split: str, count: int, seed: int) -> Images:
        first = {"train": 0, "test": TRAINING, "unseen": TRAINING + TEST}[split]
        drawn: list[Tensor] = []
        orders = [
            np.random.default_rng([seed, number]).permutation(len(of_class)) for number, of_class in enumerate(paths)
        ]
        for index in range(first, first + count):
            number = index % len(paths)
            with Image.open(paths[number][orders[number][index // len(paths)]]) as image:
                gray = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BOX)
            drawn.append(torch.from_numpy(np.array(gray, dtype=np.float32))[None] / 127.5 - 1)
        return torch.stack(drawn), np.arange(first, first + count) % len(paths)

    return draw


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of shares, with exact 95 % intervals, for each set of images."""
    for images in dict.fromkeys(line["images"] for line in lines):
        mine = [line for line in lines if line["images"] == images]
        yield f"**{images}**\n"
        yield "| sampler | faithful: yes, no, not shown | private: yes, no, not shown | refused for the right reason |"
        yield "|---|---|---|---|"
        right, honest = [0, 0], [0, 0]
        for sampler in (*LIARS, *HONEST):
            own = [line["answers"] for line in mine if line["sampler"] == sampler.__name__]
            counts = [
                [sum(a[q] == word for a in own) for word in (YES, NO, NOT_SHOWN)] for q in ("faithful", "private")
            ]
            cells = [", ".join(map(str, row)) for row in counts]
            if sampler in LIARS:
                hits = sum(answers[LIARS[sampler]] == NO for answers in own)
                right = [right[0] + hits, right[1] + len(own)]
                last = f"{hits} of {len(own)}"
            else:
                hits = sum(NO in answers.values() for answers in own)
                honest = [honest[0] + hits, honest[1] + len(own)]
                last = f"refused {hits} of {len(own)}"
            yield f"| {sampler.__name__} | {' | '.join(cells)} | {last} |"
        yield f"\nLiars refused for the right reason: {share(*right)}. Honest samplers refused: {share(*honest)}.\n"


def main() -> None:
    """Give the verdicts that are missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder with a folder of images for each class; else phantoms")
    parser.add_argument("--out", type=Path, default=Path("verdicts.jsonl"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = read_rows(options.out)
    if options.table:
        print("\n".join(table(lines)))
        return
    logging.disable(logging.WARNING)
    name = options.images.name if options.images else "phantoms"
    draw = folders(options.images) if options.images else phantoms
    known = {(line["sampler"], line["images"], line["seed"]) for line in lines}
    for seed in range(options.seeds):
        missing = [s for s in (*LIARS, *HONEST) if (s.__name__, name, seed) not in known]
        source = Source(name, draw, ("a", "b", "c"), seed) if missing else None
        for sampler in missing:
            line = measure(sampler.__name__, sampler(source), source)
            append_rows(options.out, line)
            print(name, seed, line["sampler"], line["answers"], line["seconds"], flush=True)


if __name__ == "__main__":
    main()
