"""All signals of one validation, by name: the rows that findings follow from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from medsynth.contracts import Loss
from medsynth.diagnosis.appearance import appearance_signals
from medsynth.diagnosis.course import course_signals
from medsynth.diagnosis.features import (
    class_signals,
    copy_signals,
    feature_signals,
    leak_signals,
    predicted_class_signals,
)
from medsynth.diagnosis.logits import logit_signals

_FEWEST = 16  # images on each side, and pixels of a side, below which nothing is compared


@dataclasses.dataclass
class FeatureSets:
    """Features of one extractor: (N, d) of generated, validation and training images, and of the raw generator's.

    ``classify`` returns the extractor's logits of features, where it has a classifier; ``augmented`` are those of
    augmented validation images, where the training augments.
    """

    fake: Tensor
    real: Tensor
    training: Tensor
    raw: Tensor
    classify: Callable[[Tensor], Tensor] | None = None
    augmented: Tensor | None = None


@dataclasses.dataclass
class LogitSets:
    """The discriminator's logits (N, K) of training, validation and generated images, and the loss they go into."""

    training: Tensor
    held_out: Tensor
    fake: Tensor
    loss: Loss


@dataclasses.dataclass
class Observation:
    """The results of one validation that signals are computed of; what a task does not have is None.

    Attributes:
        fake: generated images (N, C, H, W) of the averaged generator.
        real: validation images (N, C, H, W), of the same labels.
        labels: (N,), where the training is conditional.
        raw: the first images of the generator itself, from the noise of ``fake``.
        augmented: the first validation images as the discriminator sees them, where the training augments.
        features: of the metrics' extractor.
        logits: of the discriminator.
        steps: values of the steps since the last validation, by name.
        earlier: typical values of the steps at the beginning.
        objective: value of the monitored metric, lower is better.
        num_val: validation images.
        progress: share of the images of the training that have been seen, 0 to 1.
    """

    fake: Tensor
    real: Tensor
    labels: Tensor | None = None
    raw: Tensor | None = None
    augmented: Tensor | None = None
    features: FeatureSets | None = None
    logits: LogitSets | None = None
    steps: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    earlier: Mapping[str, float] = dataclasses.field(default_factory=dict)
    objective: float = math.nan
    num_val: int = 0
    progress: float = math.nan


def signals(observation: Observation) -> dict[str, float]:
    """Compute all signals that an observation has the data for: ``pixels.variation``, ``features.recall``, ...

    Values that are not finite are left out.
    """
    found = {
        "objective": observation.objective,
        "num_val": float(observation.num_val),
        "progress": observation.progress,
    }
    if min(len(observation.fake), len(observation.real), *observation.real.shape[-2:]) >= _FEWEST:
        found |= _named("pixels", appearance_signals(observation.fake, observation.real))
        if observation.features is not None:
            found |= _of_features(observation.features, observation.labels)
    if observation.logits is not None:
        sets = observation.logits
        of_logits = logit_signals(training=sets.training, held_out=sets.held_out, fake=sets.fake, loss=sets.loss)
        found |= _named("logits", of_logits)
    found |= _named("course", course_signals(observation.steps, observation.earlier))
    return {name: round(value, 6) for name, value in found.items() if math.isfinite(value)}


def _of_features(sets: FeatureSets, labels: Tensor | None) -> dict[str, float]:
    found = _named("features", feature_signals(sets.fake, sets.real, sets.training))
    found |= _named("features", copy_signals(sets.fake, sets.real, sets.training))
    if labels is not None:
        count = min(len(labels), len(sets.fake), len(sets.real))
        found |= _named("features", class_signals(sets.fake[:count], sets.real[:count], labels[:count]))
    if sets.classify is not None:
        with torch.no_grad():
            classified = predicted_class_signals(sets.classify(sets.fake), sets.classify(sets.real))
        found |= _named("features", classified)
    if sets.augmented is not None and len(sets.augmented) >= _FEWEST:
        found |= _named("features", leak_signals(sets.fake, sets.real, sets.augmented))
    if len(sets.raw) >= _FEWEST:
        found |= _named("ema", _of_average(sets))
    return found


def _of_average(sets: FeatureSets) -> dict[str, float]:
    """Compare the raw generator with its average (EMA), both from the same noise.

    * ``apart``: mean squared distance of the two images' features, over that of two real images: above 1 where the
      generator does not stay with what its noise means;
    * ``raw_distance``: the kernel distance of the raw generator's images, as ``features.distance``.
    """
    count = min(len(sets.raw), len(sets.fake))
    raw, fake = sets.raw[:count].double().cpu(), sets.fake[:count].double().cpu()
    spread = 2 * float(sets.real.double().cpu().var(dim=0).sum()) + 1e-12
    distance = feature_signals(sets.raw, sets.real, sets.training)["distance"]
    return {"apart": float((raw - fake).square().sum(dim=1).mean()) / spread, "raw_distance": distance}


def _named(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}.{name}": float(value) for name, value in values.items()}
