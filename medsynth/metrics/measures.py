"""The measures on the features of one extractor, each with its interval, the numbers of images, and its baseline."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from medsynth.metrics.baseline import Baseline, Sides, baseline, subset_size, subsets
from medsynth.metrics.extractor_module import ExtractorModule, classifier_of
from medsynth.metrics.frechet import frechet, frechet_value
from medsynth.metrics.inception_score import inception_score, inception_score_of_splits
from medsynth.metrics.interval import Estimate
from medsynth.metrics.kernel import KernelDistance, gaussian, polynomial
from medsynth.metrics.memorization import memorization
from medsynth.metrics.names import Names
from medsynth.metrics.neighbors import Neighbors, with_intervals
from medsynth.metrics.pairwise import observe_pairs
from medsynth.metrics.two_sample import FEWEST, two_sample_auc, two_sample_value

SPLITS = 10  # of the inception score
NEIGHBORS = 5  # precision and its relatives need more images than that
Distance = Callable[[np.ndarray, np.ndarray], Estimate]
Value = Callable[[np.ndarray, np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One value with its interval, its baseline and the numbers of images.

    Attributes:
        name: as in validation, without prefix.
        better: ``lower``, ``higher``, or ``baseline`` if the value of real images is best.
        estimate: the value with its 95 % interval.
        num_real, num_fake: images on each side.
        baseline: the value of real images against other real images; NaN: there is none.
        num_baseline: images on each side of the baseline.
        at_baseline: the value of generated images at ``num_baseline`` images on each side; NaN: the two have no ratio,
            as those of unbiased distances, which are 0 on average between real images.
        note: a sentence about what the value is to be read with.
    """

    name: str
    better: str
    estimate: Estimate
    num_real: int
    num_fake: int
    baseline: float = math.nan
    num_baseline: tuple[int, int] | None = None
    at_baseline: float = math.nan
    note: str = ""

    @property
    def ratio(self) -> float:
        """The value at the baseline's number of images divided by the baseline; NaN if there is none."""
        return self.at_baseline / self.baseline if self.baseline > 0 else math.nan

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


def of_features(extractor: ExtractorModule, sides: Sides, *, seed: int) -> list[Measure]:
    """Compute all measures on the features of one extractor, the most reliable distance first."""
    names, name = Names.of(extractor), extractor.name
    kernels = [names.kernel, f"gaussian_{names.kernel}"]
    counted = len(sides.real), len(sides.fake)
    of_baseline = baseline(functools.partial(_values_of_pairs, kernels, name, seed=seed), sides, seed=seed)
    of_pairs: dict[str, Measure] = {}
    for key, estimate in _of_pairs(kernels, name, sides.real, sides.fake, seed).items():
        measure = Measure(key, "lower" if key in kernels else "higher", estimate, *counted)
        of_pairs[key] = with_baseline(measure, of_baseline, has_ratio=key not in kernels)
    of_gaussians = distance_measure(names.frechet, sides, frechet, frechet_value, seed=seed)
    of_kernels = [of_pairs.pop(key) for key in kernels]
    distances = [*of_kernels, of_gaussians] if min(counted) <= extractor.num_features else [of_gaussians, *of_kernels]
    return [
        *distances,
        *of_pairs.values(),
        *_two_sample(name, sides, seed),
        *_memorization(name, sides, seed),
        *_score(extractor, names, sides, seed),
    ]


def _pair_observers(
    names: list[str], real: np.ndarray, fake: np.ndarray, seed: int
) -> tuple[dict[str, KernelDistance], list[Neighbors]]:
    """Show all pairs to the two kernel distances, by name, and to the neighbors where there are enough images."""
    distances = dict(zip(names, (polynomial(real, fake), gaussian(real, fake, seed=seed)), strict=True))
    enough = min(len(real), len(fake)) > NEIGHBORS
    neighbors = [Neighbors(len(real), len(fake), k=NEIGHBORS)] if enough else []
    observe_pairs(real, fake, [*distances.values(), *neighbors])
    return distances, neighbors


def _values_of_pairs(
    kernels: list[str], name: str, real: np.ndarray, fake: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Compute all measures of pairs without intervals."""
    distances, neighbors = _pair_observers(kernels, real, fake, seed)
    values = {key: distance.estimate().value for key, distance in distances.items()}
    return values | {f"{key}_{name}": value for one in neighbors for key, value in one.values().items()}


def _of_pairs(kernels: list[str], name: str, real: np.ndarray, fake: np.ndarray, seed: int) -> dict[str, Estimate]:
    """Estimate all measures of pairs in one pass over them; ``kernels`` names the two kernel distances."""
    distances, neighbors = _pair_observers(kernels, real, fake, seed)
    estimates = {key: distance.estimate() for key, distance in distances.items()}
    for observer in neighbors:
        found = with_intervals(observer.values(), real, fake, k=NEIGHBORS, seed=seed)
        estimates |= {f"{key}_{name}": estimate for key, estimate in found.items()}
    return estimates


def distance_measure(name: str, sides: Sides, distance: Distance, value: Value, *, seed: int) -> Measure:
    """Compute a distance and its baseline; ``value`` is the distance without its interval."""
    of_baseline = baseline(lambda real, fake: {name: value(real, fake)}, sides, seed=seed)
    measure = Measure(name, "lower", distance(sides.real, sides.fake), len(sides.real), len(sides.fake))
    return with_baseline(measure, of_baseline)


def with_baseline(measure: Measure, of_baseline: Baseline | None, *, has_ratio: bool = True) -> Measure:
    """Add the baseline to a measure; unchanged if there are too few images for one."""
    if of_baseline is None or measure.name not in of_baseline.of_real:
        return measure
    return dataclasses.replace(
        measure,
        baseline=of_baseline.of_real[measure.name],
        num_baseline=(of_baseline.count, of_baseline.count),
        at_baseline=of_baseline.of_fake[measure.name] if has_ratio else math.nan,
    )


def _two_sample(name: str, sides: Sides, seed: int) -> Iterator[Measure]:
    """Yield how well a classifier tells generated from real images; the baseline tells real from other real images.

    The baseline is of one subset: a classifier is taught for each.
    """
    if min(len(sides.real), len(sides.fake)) < FEWEST:
        return
    key = f"c2st_{name}"
    estimate = two_sample_auc(sides.real, sides.fake, seed=seed)
    measure = Measure(key, "baseline", estimate, len(sides.real), len(sides.fake))
    if subset_size(sides) < FEWEST:
        yield measure
        return
    subset = next(subsets(sides, seed=seed))
    values = [{key: two_sample_value(subset.real, other, seed=seed)} for other in (subset.other_real, subset.fake)]
    yield with_baseline(measure, Baseline(len(subset.real), *values))


def _score(extractor: ExtractorModule, names: Names, sides: Sides, seed: int) -> Iterator[Measure]:
    """Yield the inception score; the baseline is that of real images."""
    classify = classifier_of(extractor)
    if classify is None:
        return
    device = next(extractor.parameters()).device

    def logits(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return classify(torch.tensor(features, device=device)).cpu().numpy()

    def value(_: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        return {names.inception_score: inception_score_of_splits(logits(fake), splits=SPLITS, seed=seed)[0]}

    estimate = inception_score(logits(sides.fake), splits=SPLITS, seed=seed)
    measure = Measure(names.inception_score, "baseline", estimate, len(sides.real), len(sides.fake))
    yield with_baseline(measure, baseline(value, sides, seed=seed))


def _memorization(name: str, sides: Sides, seed: int) -> Iterator[Measure]:
    """Yield the distances of generated images to training images; the baseline is that of the unseen reference."""
    if sides.training is None:
        return
    found = memorization(sides.training, sides.fake, sides.real, seed=seed)
    of_held_out = found.held_out_distance.value
    counted, of_baseline = (len(sides.real), len(sides.fake)), (len(sides.training), len(sides.real))
    note = ""
    if found.held_out_copies:
        note = (
            f"{found.held_out_copies:,} of the {len(sides.real):,} reference images are copies of training images, by "
            f"the features of {name}, and are left out of the baselines of copies_{name} and "
            f"memorization_distance_{name}."
        )
    distance = Measure(f"memorization_distance_{name}", "baseline", found.distance, *counted, of_held_out, of_baseline)
    # A mean over images does not depend on their number, so that the values of all images have a ratio.
    yield dataclasses.replace(distance, at_baseline=found.distance.value)
    yield Measure(f"copies_{name}", "baseline", found.copies, *counted, found.by_chance, of_baseline, note=note)
    # The same of the reference, whose images no honest generator has seen.
    of_reference = memorization(sides.real, sides.fake, sides.training, seed=seed)
    yield Measure(
        f"reference_copies_{name}",
        "baseline",
        of_reference.copies,
        *counted,
        of_reference.by_chance,
        (len(sides.real), len(sides.training)),
    )
