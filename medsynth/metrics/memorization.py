"""Memorization of training images: the distances of generated and of held-out images to the nearest training image."""

from __future__ import annotations

import dataclasses

import numpy as np

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, mean_interval, share_interval
from medsynth.metrics.nearest import nearest

NEAREST_OF_HELD_OUT = 0.05  # of the distinct held-out images lie nearer to a training image than the threshold
_RESAMPLES = 500
_IDENTICAL = 1e-9  # cosine distances below are rounding
_FENCE = 6.0  # robust standard deviations of the logarithm of a distance
_UPPER = 0.9  # quantile that the robust standard deviation is taken from
_UPPER_DEVIATION = 1.2816  # of that quantile in a normal distribution


@dataclasses.dataclass(frozen=True)
class Memorization:
    """Nearness of generated images to training images, compared with that of held-out images.

    Attributes:
        distance: mean over generated images of the cosine distance 1 - abs(cos) to the nearest training image
            (Bai et al. 2021, "On Training Sample Memorization"); low where images were copied.
        held_out_distance: the same of the distinct held-out images, which is what new images have.
        copies: share of the generated images that are as near to a training image as the nearest 5 % of the distinct
            held-out images; about 0.05 where all are new, 1 where all are copies. NaN: fewer than two distinct
            held-out images.
        by_chance: the share of copies to be expected among new images: 0.05, or 1 / (number + 1) where there are fewer
            than 19 distinct held-out images.
        held_out_copies: number of held-out images that are copies of training images themselves.
    """

    distance: Estimate
    held_out_distance: Estimate
    copies: Estimate
    by_chance: float
    held_out_copies: int


def memorization(training: np.ndarray, fake: np.ndarray, held_out: np.ndarray, *, seed: int = 0) -> Memorization:
    """Compare the distances of fakes and of held-out real images to the training images.

    Held-out images that are copies of training images themselves say nothing about the distances of new images. They
    are recognized by ``distinct``, counted, and left out.

    The intervals are those of the sampling of generated and of held-out images, conditional on the training images.

    Args:
        training: features (N, d), at least one; zeros are at distance 1.
        fake: features (M, d).
        held_out: features (L, d) of real images that were not trained on.
        seed: of the bootstrap.
    """
    of_fake, of_held_out = (nearest(features, training)[0][:, 0] for features in (fake, held_out))
    new = of_held_out[distinct(of_held_out)]
    return Memorization(
        distance=mean_interval(of_fake),
        held_out_distance=mean_interval(new) if len(new) else Estimate(float("nan")),
        copies=_copies(of_fake, new, seed=seed) if len(new) > 1 else Estimate(float("nan")),
        by_chance=max(NEAREST_OF_HELD_OUT, 1 / (len(new) + 1)),
        held_out_copies=len(of_held_out) - len(new),
    )


def distinct(distances: np.ndarray) -> np.ndarray:
    """Tell which images are distinct from all training images, by their distances (N,) to the nearest of them.

    Distances of distinct images spread over a limited range; those of copies, exact or re-encoded, lie far below it.
    An image is a copy if the logarithm of its distance is more than 6 robust standard deviations below the median,
    which by chance about 0.3 % of distinct images are where the distances are an exponential variable's power, as
    those to the nearest of many points are. The deviation is that of the upper tail, which copies do not reach; the
    search is repeated without the copies that were found until no more are found. More than half of the images have to
    be distinct.
    """
    kept = distances > _IDENTICAL
    while kept.any():
        logs = np.log(distances[kept])
        median = float(np.median(logs))
        deviation = (float(np.quantile(logs, _UPPER)) - median) / _UPPER_DEVIATION
        fewer = kept & (distances >= np.exp(median - _FENCE * deviation) * (1 - _IDENTICAL))
        if fewer.sum() == kept.sum():
            break
        kept = fewer
    return kept


def _copies(of_fake: np.ndarray, of_held_out: np.ndarray, *, seed: int) -> Estimate:
    value = _nearer(of_fake, of_held_out)
    random = np.random.default_rng(counter_seed("copies", seed))
    again = [
        _nearer(*(values[random.integers(len(values), size=len(values))] for values in (of_fake, of_held_out)))
        for _ in range(_RESAMPLES)
    ]
    return share_interval(value, len(of_fake), float(np.var(again)))


def _nearer(of_fake: np.ndarray, of_held_out: np.ndarray) -> float:
    """Return the share of fakes (M,) that lie no farther than the threshold of the held-out images (L,)."""
    # The Weibull quantile is the one below which a new value lies with just this probability.
    threshold = np.quantile(of_held_out, NEAREST_OF_HELD_OUT, method="weibull")
    return float((of_fake <= threshold).mean())
