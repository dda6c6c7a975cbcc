"""Measure what `medsynth audit` finds: planted copies, honest samplers, overfit generators.

    python scripts/benchmark_audit.py audit.jsonl               # all rows, resumable; about 10 CPU minutes
    python scripts/benchmark_audit.py audit.jsonl planted       # of one experiment: planted, honest, overfit, memory
    python scripts/benchmark_audit.py audit.jsonl --table       # the tables of docs/privacy.md

Rows that are in the file are not computed again.

* planted: among N images of an honest sampler a share are copies of training images that are changed. Recall is the
  share of the copies that is flagged, false alarms the share of the others; found: the test of copies alone is
  significant at 0.01 / 4, what it has to be where four questions are asked.
* honest: whole audits of an honest sampler. On phantoms it is the procedural source itself with other random numbers,
  on head CT other images of the same set.
* overfit: whole audits of small GANs of 20 images, with their discriminators, and of one of 2,000 images
* memory: peak memory and time of the search for nearest features.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from row_file import append_rows, read_rows
from torch import nn

from medsynth.audit.audit import AuditOptions, audit
from medsynth.audit.copies import find_copies
from medsynth.audit.planted import planted
from medsynth.audit.result import QUESTIONS, Limits
from medsynth.audit.spaces import Nearness, Spaces
from medsynth.configuration.checked_composition import compose_checked
from medsynth.contracts import counter_seed
from medsynth.data.phantom.source import Phantoms
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.evaluation.audit_sets import logits_of
from medsynth.evaluation.evaluate import build_extractors
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.metrics.extractor_module import ExtractorModule
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.nearest import nearest

CPU = torch.device("cpu")
SIDES = ("training", "held-out", "honest")
CHANGES = ("noise", "flip", "shift", "contrast", "all")
SHARES = (0.01, 0.05, 0.2)
POOL, COUNT = 4500, 600  # phantoms that are rendered, and those on each side, a random division
PLANTED_SEEDS = {"phantom 32": 5, "head CT 64": 5, "phantom 64": 1}
HONEST_SEEDS = {"phantom 32": 20, "head CT 64": 10, "phantom 32 mini": 2}
OVERFIT = {  # training images, updates, learning rate
    "20 images": (20, 1500, 2e-4),
    "20 images, longer": (20, 2500, 1e-3),
    "2000 images": (2000, 2500, 1e-3),
}
OVERFIT_SEEDS = {"20 images": 3, "20 images, longer": 3, "2000 images": 1}
BATCH = 16


@functools.cache
def phantoms(size: int, count: int, seed: int = 0) -> torch.Tensor:
    """Return phantoms of one procedural source."""
    source = Phantoms(image_size=size, seed=seed)
    return torch.from_numpy(np.stack([source.image("train", number) for number in range(count)]))[:, None]


def phantom_sets(size: int, seed: int) -> list[ImageSet]:
    """Return training, held-out and an honest sampler's images: a random division of phantoms of one source."""
    images = phantoms(size, POOL if size == 32 else 3 * COUNT)
    order = np.random.default_rng(counter_seed("phantoms", seed)).permutation(len(images))
    parts = np.split(order, [COUNT, 2 * COUNT, 3 * COUNT])[:3]
    return [as_set(name, images[part]) for name, part in zip(SIDES, parts, strict=True)]


def head_sets(archive: str, seed: int) -> list[ImageSet]:
    """Return 300, 250 and 250 images of head CT, a random division."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if "HeadCT" in name and name.endswith(".png"))
        pixels = np.stack([np.asarray(Image.open(file.open(name)), dtype=np.float32) for name in names])
    images = torch.from_numpy(pixels / 127.5 - 1)[:, None]
    order = np.random.default_rng(counter_seed("heads", seed)).permutation(len(images))
    parts = np.split(order, [300, 550])
    return [as_set(name, images[part]) for name, part in zip(SIDES, parts, strict=True)]


def as_set(name: str, images: torch.Tensor) -> ImageSet:
    """Return images in memory as a set."""
    return ImageSet(name, len(images), lambda numbers: images[list(numbers)])


def sets_of(data: str, archive: str, seed: int) -> list[ImageSet]:
    """Return training, held-out and honest images of a data set by its name in the tables."""
    return head_sets(archive, seed) if data.startswith("head") else phantom_sets(int(data.split()[1]), seed)


def extractors(data: str) -> dict[str, ExtractorModule]:
    """Return the embedded extractor where the name of the data asks for it, else none: aligned pixels alone."""
    if not data.endswith("mini"):
        return {}
    return build_extractors(compose_checked("evaluate", ["extractor=mini"]), 32, 1, CPU)


def mixed(honest: dict[str, Nearness], copies: dict[str, Nearness], count: int) -> dict[str, Nearness]:
    """Return honest images of which the last ``count`` are replaced by copies."""
    return {
        name: Nearness(
            *(
                np.concatenate([getattr(own, field)[: len(own.score) - count], getattr(copies[name], field)[:count]])
                for field in ("score", "distance", "rows")
            )
        )
        for name, own in honest.items()
    }


def planted_rows(data: str, archive: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each change and share of planted copies."""
    training, held_out, honest = sets_of(data, archive, seed)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), cache=None, batch_size=64, device=CPU)
        spaces = Spaces(store, extractors(data), training)
        of_held_out, of_honest = (spaces.nearest(images, training) for images in (held_out, honest))
        for change in CHANGES:
            copied = spaces.nearest(planted(training, max(honest.count // 5, 1), change=change, seed=seed), training)
            for share in SHARES:
                count = round(share * honest.count)
                found = find_copies(
                    mixed(of_honest, copied, count),
                    of_held_out,
                    copied,
                    groups=None,
                    level=0.01 / len(QUESTIONS),
                    seed=seed,
                )
                flagged = found.flagged
                yield {
                    "change": change,
                    "share": share,
                    "copies": count,
                    "flagged_copies": int(flagged[-count:].sum()),
                    "honest": honest.count - count,
                    "false_alarms": int(flagged[:-count].sum()),
                    "found": bool(found.measure.p <= 0.01 / len(QUESTIONS)),
                    "p": found.measure.p,
                }


def honest_row(data: str, archive: str, seed: int) -> dict[str, Any]:
    """Return the answer of a whole audit of an honest sampler."""
    return audited(sets_of(data, archive, seed + 100), data, seed)


def audited(sets: list[ImageSet], data: str, seed: int, logits: Any = None) -> dict[str, Any]:
    """Return what matters of an audit's record."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), cache=None, batch_size=64, device=CPU)
        options = AuditOptions(seed=seed, limits=Limits())
        record = audit(*sets, store=store, extractors=extractors(data), logits=logits, options=options).to_dict()
    return {
        "answer": record["answer"],
        "found": record["found"],
        "smallest_share": record["copies"]["smallest_share"],
        "recall": record["copies"]["recall"]["value"],
        "values": {row["name"]: [row["value"], row["control"], row["p"]] for row in record["measures"]},
    }


def overfit_row(name: str, seed: int) -> dict[str, Any]:
    """Return the audit of a small GAN of 32 px phantoms, with its discriminator."""
    count, updates, lr = OVERFIT[name]
    images = phantoms(32, POOL)
    order = np.random.default_rng(counter_seed("overfit", seed)).permutation(len(images))
    training, held_out = as_set("training", images[order[:count]]), as_set("held-out", images[order[-500:]])
    begun = time.process_time()
    generator, discriminator = trained_gan(training, seed, updates, lr)
    seconds = time.process_time() - begun
    noise = torch.randn(500, generator.latent_dim, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        made = torch.cat([generator(z) for z in noise.split(100)]).clamp(-1, 1)
    logits = logits_of(discriminator.eval(), 64, CPU, conditional=False)
    return {
        "training": count,
        "seconds": seconds,
        **audited([training, held_out, as_set("fake", made)], name, seed, logits),
    }


def trained_gan(training: ImageSet, seed: int, updates: int, lr: float) -> tuple[DCGANGenerator, DCGANDiscriminator]:
    """Train a DCGAN with the non-saturating loss, without augmentation or regularization."""
    torch.manual_seed(seed)
    images = training.read(range(training.count))
    generator = DCGANGenerator(image_size=32, channels=1, latent_dim=32, width=8, max_width=64)
    discriminator = DCGANDiscriminator(
        image_size=32, channels=1, width=16, max_width=64, minibatch=None, normalization="none"
    )
    optimizers = [torch.optim.Adam(n.parameters(), lr=lr, betas=(0.5, 0.999)) for n in (generator, discriminator)]
    loss = nn.functional.softplus
    for _ in range(updates):
        real = images[torch.randint(len(images), (BATCH,))]
        fake = generator(torch.randn(BATCH, generator.latent_dim))
        of_real, of_fake = (discriminator.head(discriminator.features(x)) for x in (real, fake.detach()))
        step(optimizers[1], loss(-of_real).mean() + loss(of_fake).mean())
        step(optimizers[0], loss(-discriminator.head(discriminator.features(fake))).mean())
    return generator.eval(), discriminator


def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def memory_row(rows: int, width: int) -> dict[str, Any]:
    """Return peak memory and time of the search among ``rows`` against as many features of ``width``, in a child."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.npy" for name in "ab"]
        for number, path in enumerate(paths):
            random = np.random.default_rng(number)
            array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width))
            for first in range(0, rows, 4096):
                array[first : first + 4096] = random.random((min(4096, rows - first), width), dtype=np.float32)
            array.flush()
            del array
        child = os.fork()
        if not child:
            begun = time.process_time()
            nearest(np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r"), 20)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            (Path(folder) / "result").write_text(json.dumps([peak, time.process_time() - begun]))
            os._exit(0)
        os.waitpid(child, 0)
        peak, seconds = json.loads((Path(folder) / "result").read_text())
    return {"rows": rows, "width": width, "peak_gib": peak, "cpu_seconds": seconds}


def experiments(archive: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the key of each group of rows, and a function that computes it."""
    for data, seeds in HONEST_SEEDS.items():
        for seed in range(seeds):
            key = {"experiment": "honest", "data": data, "seed": seed}
            yield key, lambda data=data, seed=seed: [honest_row(data, archive, seed)]
    for name in OVERFIT:
        for seed in range(OVERFIT_SEEDS[name]):
            key = {"experiment": "overfit", "data": name, "seed": seed}
            yield key, lambda name=name, seed=seed: [overfit_row(name, seed)]
    for data, seeds in PLANTED_SEEDS.items():
        for seed in range(seeds):
            key = {"experiment": "planted", "data": data, "seed": seed}
            yield key, lambda data=data, seed=seed: list(planted_rows(data, archive, seed))
    for rows, width in ((10_000, 128), (20_000, 128), (100_000, 128), (10_000, 1280), (20_000, 1280), (100_000, 1280)):
        key = {"experiment": "memory", "data": f"{rows} x {width}", "seed": 0}
        yield key, lambda rows=rows, width=width: [memory_row(rows, width)]


def tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the tables."""
    yield "| data | change | copies | recall at 1, 5, 20 % | false alarms | found at 1, 5, 20 % |"
    yield "|---|---|---|---|---|---|"
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["experiment"] == "planted":
            groups[row["data"], row["change"]].append(row)
    for (data, change), own in groups.items():
        by_share = [[row for row in own if row["share"] == share] for share in SHARES]
        recall = [sum(r["flagged_copies"] for r in part) / sum(r["copies"] for r in part) for part in by_share]
        alarms = sum(r["false_alarms"] for r in own) / sum(r["honest"] for r in own)
        found = [f"{sum(r['found'] for r in part)}/{len(part)}" for part in by_share]
        copies = sum(r["copies"] for r in own)
        yield (
            f"| {data} | {change} | {copies:,} | {', '.join(f'{value:.3f}' for value in recall)} | {alarms:.4f} | "
            f"{', '.join(found)} |"
        )
    yield ""
    yield "| generator: data | audits | yes | not shown | no | flagged images, mean | measures that were found |"
    yield "|---|---|---|---|---|---|---|"
    answers: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["experiment"] in ("honest", "overfit"):
            answers[row["experiment"], row["data"]].append(row)
    for (experiment, data), own in answers.items():
        counts = [sum(row["answer"] == answer for row in own) for answer in ("yes", "not shown", "no")]
        found = sorted({name for row in own for name in row["found"]})
        flagged = float(np.mean([row["values"]["copies"][0] for row in own]))
        yield (
            f"| {experiment}: {data} | {len(own)} | {' | '.join(map(str, counts))} | {flagged:.4f} | "
            f"{', '.join(found) or 'none'} |"
        )
    yield ""
    yield "| features | peak memory, GiB | CPU seconds |"
    yield "|---|---|---|"
    for row in rows:
        if row["experiment"] == "memory":
            yield f"| {row['rows']:,} x {row['width']} | {row['peak_gib']:.2f} | {row['cpu_seconds']:.0f} |"


def main() -> None:
    """Compute the rows that are missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("experiment", nargs="?", choices=("planted", "honest", "overfit", "memory"))
    parser.add_argument("--heads", default="shared/data/mednist_mini_64.zip", help="archive of MedNIST's images")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    rows = read_rows(arguments.file)
    if arguments.table:
        print("\n".join(tables(rows)))
        return
    done = {(row["experiment"], row["data"], row["seed"]) for row in rows}
    for key, compute in experiments(arguments.heads):
        if tuple(key.values()) in done or arguments.experiment not in (None, key["experiment"]):
            continue
        begun = time.time()
        append_rows(arguments.file, *({**key, **row} for row in compute()))  # all of an experiment or none
        print(*key.values(), f"{time.time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
