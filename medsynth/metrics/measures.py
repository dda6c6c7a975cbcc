"""The measures on the features of one extractor, each with its interval, the numbers of images, and its baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from medsynth.metrics.extractor_module import ExtractorModule, classifier_of
from medsynth.metrics.frechet import frechet
from medsynth.metrics.inception_score import inception_score
from medsynth.metrics.interval import Estimate
from medsynth.metrics.kernel import gaussian, polynomial
from medsynth.metrics.names import Names
from medsynth.metrics.neighbors import NEAREST_OF_HELD_OUT, Neighbors, memorization
from medsynth.metrics.pairwise import observe_pairs

SPLITS = 10  # of the inception score
MEMORIZED = 0.1  # mean cosine distance to the training images above which nothing counts as copied
NEIGHBORS = 5  # precision and its relatives need more images than that
Distance = Callable[[np.ndarray, np.ndarray], Estimate]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One value with its interval, its baseline and the numbers of images.

    Attributes:
        name: as in validation, without prefix.
        better: ``lower``, ``higher``, or ``baseline`` if the value of real images is best.
        estimate: the value with its 95 % interval.
        num_real, num_fake: images on each side.
        baseline: the value of real images against other real images; NaN: there is none.
        num_baseline: images on both sides of the baseline.
    """

    name: str
    better: str
    estimate: Estimate
    num_real: int
    num_fake: int
    baseline: float = math.nan
    num_baseline: tuple[int, int] | None = None

    @property
    def ratio(self) -> float:
        """The value divided by the baseline; NaN if the baseline is not positive, as unbiased distances may be."""
        return self.estimate.value / self.baseline if self.baseline > 0 else math.nan

    @property
    def value(self) -> float:
        """The value."""
        return self.estimate.value

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval; NaN: not known."""
        return self.estimate.low

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval; NaN: not known."""
        return self.estimate.high

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        values = {name: value for name, value in vars(self).items() if name != "estimate"}
        return {**values, **vars(self.estimate), "ratio": self.ratio}


class Sides(NamedTuple):
    """Features, float32 (N, d), of all sides.

    ``training`` is None where there are no training images apart from the reference. Both real sides are in random
    order, so that their first rows are a random part of them.
    """

    real: np.ndarray
    fake: np.ndarray
    training: np.ndarray | None

    def baseline(self) -> tuple[np.ndarray, np.ndarray]:
        """Return real images for both sides: as many as there are generated ones, or the halves of the reference."""
        if self.training is None:
            middle = len(self.real) // 2
            return self.real[:middle], self.real[middle:]
        return self.real, self.training[: len(self.fake)]

    def of_class(self, labels: Sides, number: int) -> Sides:
        """Return the rows whose labels, (N,) on each side, are ``number``."""

        def chosen(rows: np.ndarray, of_rows: np.ndarray) -> np.ndarray:
            return rows[np.asarray(of_rows) == number]

        training = None
        if self.training is not None and labels.training is not None:
            training = chosen(self.training, labels.training)
        return Sides(chosen(self.real, labels.real), chosen(self.fake, labels.fake), training)


def of_features(extractor: ExtractorModule, sides: Sides, *, seed: int) -> list[Measure]:
    """Compute all measures on the features of one extractor, the most reliable distance first."""
    names, name = Names.of(extractor), extractor.name
    kernels = (names.kernel, f"gaussian_{names.kernel}")
    counted, baseline = (len(sides.real), len(sides.fake)), sides.baseline()
    baselines = _of_pairs(kernels, name, *baseline, seed) if min(map(len, baseline)) >= 2 else {}
    of_pairs: dict[str, Measure] = {}
    for key, estimate in _of_pairs(kernels, name, sides.real, sides.fake, seed).items():
        better = "lower" if key in kernels else "higher"
        of_pairs[key] = Measure(key, better, estimate, *counted)
        if key in baselines:
            of_pairs[key] = dataclasses.replace(
                of_pairs[key], baseline=baselines[key].value, num_baseline=_counts(*baseline)
            )
    of_gaussians = distance_measure(names.frechet, "lower", sides, frechet)
    of_kernels = [of_pairs.pop(key) for key in kernels]
    distances = [*of_kernels, of_gaussians] if min(counted) <= extractor.num_features else [of_gaussians, *of_kernels]
    memorized = list(_memorization(name, sides))
    informed = [_informed(names.memorization_informed, of_gaussians, memorized[0])] if memorized else []
    return [*distances, *informed, *of_pairs.values(), *memorized, *_score(extractor, names, sides, seed)]


def _informed(name: str, frechet: Measure, distance: Measure) -> Measure:
    """Divide the Fréchet distance by the mean distance to the training images if that is small (Bai et al. 2021).

    The interval is that of the Fréchet distance; the baseline uses the two distances of the reference.
    """
    means = distance.estimate.value, distance.baseline
    of_fake, of_reference = (1 / (value + 1e-14) if value < MEMORIZED else 1.0 for value in means)
    estimate = Estimate(*(of_fake * value for value in vars(frechet.estimate).values()))
    return dataclasses.replace(frechet, name=name, estimate=estimate, baseline=of_reference * frechet.baseline)


def _of_pairs(
    kernels: tuple[str, str], name: str, real: np.ndarray, fake: np.ndarray, seed: int
) -> dict[str, Estimate]:
    """Estimate all measures of pairs in one pass over them; ``kernels`` names the two kernel distances."""
    distances = polynomial(real, fake), gaussian(real, fake, seed=seed)
    enough = min(len(real), len(fake)) > NEIGHBORS
    neighbors = [Neighbors(len(real), len(fake), k=NEIGHBORS)] if enough else []
    observe_pairs(real, fake, [*distances, *neighbors])
    values = {key: distance.estimate() for key, distance in zip(kernels, distances, strict=True)}
    for observer in neighbors:
        values |= {f"{key}_{name}": estimate for key, estimate in observer.estimates().items()}
    return values


def distance_measure(name: str, better: str, sides: Sides, distance: Distance) -> Measure:
    """Compute a distance and its baseline; without one if there are too few real images."""
    baseline = sides.baseline()
    counted = len(sides.real), len(sides.fake)
    if min(map(len, baseline)) < 2:
        return Measure(name, better, distance(sides.real, sides.fake), *counted)
    value = distance(*baseline).value
    return Measure(name, better, distance(sides.real, sides.fake), *counted, value, _counts(*baseline))


def _counts(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    return len(first), len(second)


def _score(extractor: ExtractorModule, names: Names, sides: Sides, seed: int) -> Iterator[Measure]:
    """Yield the inception score; the baseline is that of the reference."""
    classify = classifier_of(extractor)
    if classify is None:
        return
    device = next(extractor.parameters()).device

    def score(features: np.ndarray) -> Estimate:
        with torch.inference_mode():
            logits = classify(torch.tensor(features, device=device)).cpu().numpy()
        return inception_score(logits, splits=SPLITS, seed=seed)

    counted = len(sides.real), len(sides.fake)
    yield Measure(names.inception_score, "baseline", score(sides.fake), *counted, score(sides.real).value, counted)


def _memorization(name: str, sides: Sides) -> Iterator[Measure]:
    """Yield the distances of generated images to training images; the baseline is that of the unseen reference."""
    if sides.training is None:
        return
    values = memorization(sides.training, sides.fake, sides.real)
    counted = len(sides.real), len(sides.fake)
    by_chance = max(NEAREST_OF_HELD_OUT, 1 / (len(sides.real) + 1))
    baselines = {"memorization_distance": values["held_out_distance"].value, "copies": by_chance}
    for key, baseline in baselines.items():
        yield Measure(
            f"{key}_{name}", "baseline", values[key], *counted, baseline, (len(sides.training), len(sides.real))
        )
