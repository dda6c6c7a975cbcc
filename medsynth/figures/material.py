"""The images that the figures of a run show, and their features."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from medsynth.contracts import Generator, noise
from medsynth.evaluation.evaluate import build_extractors
from medsynth.evaluation.image_sets import generated, shuffled, split_of
from medsynth.evaluation.opened_run import OpenedRun
from medsynth.metrics.evaluation import Evaluation
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.image_set import ImageSet


@dataclass(frozen=True)
class Limits:
    """Limits of the numbers of images that take part, so that the time is bounded.

    Attributes:
        images: real ones, and as many generated.
        training: images among which the nearest are looked for.
        seconds: that the generated images may take; fewer are made of a slow generator.
    """

    images: int = 512
    training: int = 2048
    seconds: float = 30.0


class Material:
    """Real and generated images of one run, real ones that it was trained on, and the features of all.

    Args:
        run: the run.
        config: of an evaluation: one extractor, and how features are computed.
        limits: of the numbers of images.
        temporary: folder of the features.
        seed: of noise and intervals.

    Attributes:
        names: of the classes; empty without classes.
        features: of ``real``, ``fake`` and ``training``.
        extractor: name of the network that they are of.
        evaluation: measures of ``real`` and ``fake``.
    """

    def __init__(self, run: OpenedRun, config: DictConfig, limits: Limits, temporary: Path, seed: int) -> None:
        self.run, self.config, self.seed = run, config, seed
        self.device = next(run.generator.parameters()).device
        self.names = run.data.class_names if run.trained.num_classes else ()
        count = min(limits.images, _affordable(run.generator, limits.seconds, self.device, bool(self.names)))
        self.real = shuffled(split_of(run.data, run.trained, "val"), most=count)
        self.training = shuffled(split_of(run.data, run.trained, "train"), most=limits.training)
        self.fake = generated(
            run.generator, self.real.count, reference=self.real, conditional=bool(self.names), seed=seed
        )
        size, channels = run.trained.data.image_size, run.trained.data.channels
        ((key, extractor),) = build_extractors(config, size, channels, self.device).items()
        store = FeatureStore(temporary, cache=None, batch_size=config.batch_size, device=self.device, progress=False)
        self.evaluation = Evaluation(
            store,
            real=self.real,
            fake=self.fake,
            training=self.training,
            extractors={key: extractor},
            pairs=min(config.pairs, 500),
            seed=seed,
        )
        of = {images.name: np.array(store.features(images, {key: extractor})[key]) for images in self._sides()}
        self.features = [of[images.name] for images in self._sides()]
        self.extractor = extractor.name

    @property
    def latent_dim(self) -> int:
        """Length of the generator's noise."""
        return _width(self.run.generator)

    def _sides(self) -> tuple[ImageSet, ImageSet, ImageSet]:
        return self.real, self.fake, self.training

    @torch.inference_mode()
    def generate(self, z: torch.Tensor, label: int) -> torch.Tensor:
        """Return images (N, C, H, W) in [-1, 1] of noise (N, latent_dim), all of one class."""
        labels = torch.full((len(z),), label, device=self.device) if self.names else None
        return self.run.generator(z.to(self.device), labels).float().clamp(-1, 1).cpu()

    def described(self, images: ImageSet, describe: Callable[[torch.Tensor], np.ndarray]) -> np.ndarray:
        """Return what ``describe`` makes of images, batch by batch, joined."""
        size = self.config.batch_size
        batches = (range(start, min(start + size, images.count)) for start in range(0, images.count, size))
        return np.concatenate([describe(images.read(batch)) for batch in batches])


def _width(generator: nn.Module) -> int:
    return cast(Generator, generator).latent_dim


@torch.inference_mode()
def _affordable(generator: nn.Module, seconds: float, device: torch.device, conditional: bool) -> int:
    """Return how many images the generator makes in that time, by a batch of few, 64 at least."""
    few = 8
    z = noise(few, _width(generator), seed=0).to(device)
    labels = torch.zeros(few, dtype=torch.long, device=device) if conditional else None
    generator(z, labels)  # the first call is slower
    started = time.perf_counter()
    generator(z, labels).float().cpu()
    return max(64, int(few * seconds / max(time.perf_counter() - started, 1e-9)))
