"""Measure the time of `medsynth evaluate` for all of its measures, against torch-fidelity for FID and KID alone.

    uv run scripts/benchmark_metrics.py                                    # 10,000 noise images of 64 pixels a side
    uv run scripts/benchmark_metrics.py --network resnet18                 # seen by another network
    uv run scripts/benchmark_metrics.py --network inception_v3 --native --images 1000    # at 299 pixels
    uv run scripts/benchmark_metrics.py --images 500 --dimension 256       # to see that it works

Both use the same network (the embedded one, or one of timm's with random weights, whose values mean nothing and whose
cost is real) on the same images in memory, with the same batches and threads. No training images are
given, so that both look at as many images; baselines are then of the halves of the reference. The second evaluation
finds the real images' features kept. The Fréchet distance is timed on random features, against the ways by
scipy.linalg.sqrtm and of torchmetrics; memory is the highest that a process of its own has resident, at N and 4 N.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
import torch_fidelity
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torchmetrics.image.fid import _compute_fid

from medsynth.backbone.extractor import TimmExtractor
from medsynth.backbone.network import TimmBackbone
from medsynth.metrics.evaluation import Evaluation
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.frechet import frechet_distance, gaussian
from medsynth.metrics.image_set import ImageSet

SIZE = 64
BATCH = 64
NAME = "medsynth-network"
EMBEDDED = "medsynth_mini"


def main() -> None:
    options = _options()
    if options.memory:
        with tempfile.TemporaryDirectory() as folder:
            _evaluate(options.images, Path(folder), options.network)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
        return
    _report_time(options.images, options.network)
    if options.network == EMBEDDED:
        _report_frechet(options.dimension, options.images)
        _report_memory(options.images)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="on each side")
    parser.add_argument("--dimension", type=int, default=2048, help="features of the Fréchet distance")
    parser.add_argument("--network", default=EMBEDDED, help="timm's name, with random weights")
    parser.add_argument("--native", action="store_true", help="images are enlarged to the network's own size")
    parser.add_argument("--memory", action="store_true", help="only evaluate, and print the memory taken in MiB")
    return parser.parse_args()


def _report_time(count: int, network: str) -> None:
    _Network.network = network  # torch-fidelity makes the object itself
    torch_fidelity.register_feature_extractor(NAME, _Network)
    with tempfile.TemporaryDirectory() as folder:  # what is slow the first time only counts for neither
        _evaluate(BATCH, Path(folder), network)
        _fidelity(BATCH)
    with tempfile.TemporaryDirectory() as folder:
        first = _seconds(lambda: _evaluate(count, Path(folder), network))
        second = _seconds(lambda: _evaluate(count, Path(folder), network))
    theirs = _seconds(lambda: _fidelity(count))
    print(f"{network}, {count} against {count} images: torch-fidelity's FID and KID {theirs:.1f} s")
    print(f"all of ours / torch-fidelity's two  {first / theirs:.2f}")
    print(f"second evaluation / first           {second / first:.2f}")


def _report_frechet(dimension: int, count: int) -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((dimension, dimension)) / dimension**0.5
    sides = [gaussian((random.standard_normal((max(count, 2), dimension)) + shift) @ mixing) for shift in (0, 0.1)]
    tensors = [torch.from_numpy(array) for side in sides for array in (side.mean, side.covariance)]
    ways = {
        "scipy's sqrtm": lambda: scipy.linalg.sqrtm(sides[0].covariance @ sides[1].covariance),
        "torchmetrics": lambda: _compute_fid(*tensors),
    }
    ours = _seconds(lambda: frechet_distance(*sides))
    print(f"Fréchet distance of {dimension} features: {ours:.2f} s")
    for name, way in ways.items():
        print(f"ours / {name:28} {ours / _seconds(way):.2f}")


def _report_memory(count: int) -> None:
    taken = []
    for number in (count, 4 * count):
        program = [sys.executable, __file__, "--memory", "--images", str(number)]
        taken.append(float(subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()[-1]))
    print(f"peak memory: {taken[0]:.0f} MiB at {count}, {taken[1]:.0f} MiB at {4 * count} images a side")


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _noise(numbers: Any, seed: int) -> torch.Tensor:
    """Images (n, 1, SIZE, SIZE), uint8: smooth noise, different for each number."""
    generator = torch.Generator()
    coarse = []
    for number in numbers:
        generator.manual_seed(seed * 2**32 + int(number))
        coarse.append(torch.rand(1, SIZE // 8, SIZE // 8, generator=generator))
    images = torch.nn.functional.interpolate(torch.stack(coarse), size=SIZE, mode="bilinear")
    return (images * 255).round().to(torch.uint8)


def _extractor(network: str) -> TimmExtractor:
    torch.manual_seed(0)  # random weights are the same ones on both sides
    weights = "embedded" if network == EMBEDDED else "random"
    backbone = TimmBackbone(
        model_name=network,
        channels=1,
        image_size=SIZE,
        weights=weights,
        input_size="native" if _options().native else None,
        classifier=True,
    )
    return TimmExtractor(name="network", backbone=backbone).eval()


def _evaluate(count: int, cache: Path, network: str) -> None:
    def side(name: str, seed: int, key: dict[str, int] | None) -> ImageSet:
        return ImageSet(name, count, lambda numbers: _noise(numbers, seed).float() / 127.5 - 1, key=key)

    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), cache=cache, batch_size=BATCH, device=torch.device("cpu"))
        real, fake = side("reference", 0, {"seed": 0}), side("generated", 1, None)
        extractors = {"network": _extractor(network)}
        evaluation = Evaluation(store, real=real, fake=fake, training=None, extractors=extractors, pairs=500, seed=0)
        evaluation.measures()


class _Images(Dataset):
    """The same images as torch-fidelity takes them, three channels of uint8."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> torch.Tensor:
        if number >= self.count:
            raise IndexError(number)
        return _noise([number], self.seed)[0].expand(3, -1, -1)


class _Network(FeatureExtractorBase):
    """The same network in torch-fidelity's form."""

    network = EMBEDDED

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        self.extractor = _extractor(self.network)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("pooled",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "pooled"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.extractor(images[:, :1].float() / 127.5 - 1),)


def _fidelity(count: int) -> None:
    torch_fidelity.calculate_metrics(
        input1=_Images(count, 1),
        input2=_Images(count, 0),
        feature_extractor=NAME,
        fid=True,
        kid=True,
        kid_subset_size=min(1000, count),
        batch_size=BATCH,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )


if __name__ == "__main__":
    main()
