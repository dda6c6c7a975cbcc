"""A value with its 95 % interval."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from medsynth.contracts import counter_seed

Z = 1.959964  # of the normal distribution: 95 % lie within plus and minus this many standard deviations
RESAMPLES = 1000
DRAWN_UP_TO = 1000  # values


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval, which are NaN if they are not known."""

    value: float
    low: float = math.nan
    high: float = math.nan


def normal_interval(value: float, standard_error: float) -> Estimate:
    """Return the interval of an estimate with a normal error."""
    return Estimate(float(value), float(value - Z * standard_error), float(value + Z * standard_error))


def bootstrap_mean(values: np.ndarray, seed: int) -> Estimate:
    """Compute the mean of independent values (N,), with the percentile interval of the bootstrap (Efron 1979).

    Of more than 1000 values the interval is the normal one with the bootstrap's own standard error, which is known
    without drawing: by then the two agree.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return Estimate(float(values.mean()))
    if len(values) > DRAWN_UP_TO:
        return normal_interval(values.mean(), values.std() / len(values) ** 0.5)
    rng = np.random.default_rng(counter_seed("bootstrap", seed))
    # How often each value is drawn, instead of the draws: the same distribution, and one product for all resamples.
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=RESAMPLES)
    low, high = np.percentile(weights @ values / len(values), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))
