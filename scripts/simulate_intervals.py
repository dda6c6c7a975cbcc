"""Measure how often the 95 % intervals of the measures hold the expected value.

    uv run scripts/simulate_intervals.py
    uv run scripts/simulate_intervals.py --images 100 --repetitions 200 --only edges

Both sides are drawn anew from known distributions, many times. The value that an interval ought to hold is the
expected one at these numbers of images: the mean over all repetitions. The table has, for each measure, the part of the
intervals that hold it; with 400 repetitions that part is known to within 0.022 (two standard errors at 0.95).

The features have 16 dimensions, whose standard deviations fall from 1 to 1/4. The situations:

* ``equal``: both sides from one normal distribution;
* ``shifted``: generated features are moved by 1.5 standard deviations of the first dimension;
* ``narrow``: generated features have 0.6 times the spread; ``wide``: 1.5 times;
* ``modes``: the real features have 8 clusters, the generated ones 4 of them;
* ``tails``: the real features have heavy tails (Student's t, 5 degrees of freedom);
* ``outliers``: generated features are moved by 4 standard deviations. They lie in the neighborhoods of a few outlying
  real images only, or of none;
* ``apart``: moved by 9: measures of overlap are 0;
* ``images``: pictures of 16 pixels of random brightness and grain, for the measures without a network; ``alike``: sets
  of pictures that differ by little;
* ``classes``: logits of 6 classes, for the inception score.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from medsynth.metrics.appearance import intensity_distance, intensity_histograms, radial_spectra, spectrum_distance
from medsynth.metrics.frechet import frechet
from medsynth.metrics.inception_score import inception_score
from medsynth.metrics.interval import Estimate
from medsynth.metrics.kernel import gaussian_kernel, kernel
from medsynth.metrics.memorization import memorization
from medsynth.metrics.neighbors import precision_recall_density_coverage
from medsynth.metrics.two_sample import two_sample_auc

DIMENSIONS = 16
SPREAD = 1 / np.sqrt(1 + np.arange(DIMENSIONS))
Draw = Callable[[int, np.random.Generator], np.ndarray]


class Situation(NamedTuple):
    """Distributions of both sides, and the measures that are taken."""

    real: Draw
    fake: Draw
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, Estimate]]


def normal(*, shift: float = 0.0, scale: float = 1.0) -> Draw:
    """Return a normal distribution, moved along the first dimension."""

    def draw(count: int, random: np.random.Generator) -> np.ndarray:
        rows = random.standard_normal((count, DIMENSIONS)) * SPREAD * scale
        rows[:, 0] += shift
        return rows

    return draw


def heavy_tailed(count: int, random: np.random.Generator) -> np.ndarray:
    """Draw from Student's t distribution with 5 degrees of freedom, the same radius for all dimensions."""
    return normal()(count, random) / np.sqrt(random.chisquare(5, count) / 5)[:, None]


def clusters(number: int) -> Draw:
    """Return a mixture of the first ``number`` of 8 normal distributions."""
    centers = 3 * np.random.default_rng(1).standard_normal((8, DIMENSIONS))

    def draw(count: int, random: np.random.Generator) -> np.ndarray:
        return centers[random.integers(number, size=count)] + normal()(count, random)

    return draw


def pictures(brightness: float, grain: float) -> Draw:
    """Return pictures (n, 1, 16, 16) of random brightness, with grain."""

    def draw(count: int, random: np.random.Generator) -> np.ndarray:
        level = brightness + 0.2 * random.standard_normal((count, 1, 1, 1))
        return np.clip(level + grain * random.standard_normal((count, 1, 16, 16)), -1, 1)

    return draw


def logits(count: int, random: np.random.Generator) -> np.ndarray:
    """Draw logits (n, 6)."""
    return 2 * random.standard_normal((count, 6))


def of_features(real: np.ndarray, fake: np.ndarray) -> dict[str, Estimate]:
    """Take all measures on features."""
    told = {"c2st": two_sample_auc(real, fake)}
    distances = {"fd": frechet(real, fake), "kd": kernel(real, fake), "gaussian_kd": gaussian_kernel(real, fake)}
    return precision_recall_density_coverage(real, fake) | distances | told


def of_pictures(real: np.ndarray, fake: np.ndarray) -> dict[str, Estimate]:
    """Take the distances without a network."""
    images = [torch.as_tensor(rows) for rows in (real, fake)]
    histograms, spectra = ([rows_of(side) for side in images] for rows_of in (intensity_histograms, radial_spectra))
    return {
        "intensity_distance": intensity_distance(histograms[0], histograms[1], seed=0),
        "spectrum_distance": spectrum_distance(spectra[0], spectra[1], seed=0),
    }


def of_logits(_: np.ndarray, fake: np.ndarray) -> dict[str, Estimate]:
    """Take the inception score."""
    return {"is": inception_score(fake, splits=10, seed=0)}


def of_training(shift: float) -> Callable[[np.ndarray, np.ndarray], dict[str, Estimate]]:
    """Return the measures of memorization with one set of 500 training images."""
    training = normal(shift=shift)(500, np.random.default_rng(7))

    def measure(held_out: np.ndarray, fake: np.ndarray) -> dict[str, Estimate]:
        found = memorization(training, fake, held_out)
        return {"copies": found.copies, "memorization_distance": found.distance}

    return measure


SITUATIONS = {
    "equal": Situation(normal(), normal(), of_features),
    "shifted": Situation(normal(), normal(shift=1.5), of_features),
    "narrow": Situation(normal(), normal(scale=0.6), of_features),
    "wide": Situation(normal(), normal(scale=1.5), of_features),
    "modes": Situation(clusters(8), clusters(4), of_features),
    "tails": Situation(heavy_tailed, normal(), of_features),
    "outliers": Situation(normal(), normal(shift=4), of_features),
    "apart": Situation(normal(), normal(shift=9), of_features),
    "new": Situation(normal(shift=3), normal(shift=3), of_training(3)),
    "images": Situation(pictures(0.0, 0.2), pictures(0.1, 0.25), of_pictures),
    "alike": Situation(pictures(0.0, 0.2), pictures(0.03, 0.2), of_pictures),
    "classes": Situation(logits, logits, of_logits),
}


def one(task: tuple[str, int, int]) -> dict[str, Estimate]:
    """Draw both sides of a situation and take its measures; the task is (situation, images, repetition)."""
    name, count, repetition = task
    situation = SITUATIONS[name]
    random = np.random.default_rng([repetition, count])
    return dict(situation.measure(situation.real(count, random), situation.fake(count, random)))


def coverage(estimates: list[Estimate]) -> str:
    """Format the part of the intervals that hold the expected value, and the expected value."""
    value, low, high = (np.array([getattr(one, name) for one in estimates]) for name in ("value", "low", "high"))
    expected = value.mean()
    tiny = 1e-9 * abs(expected)
    return f"{np.mean((low <= expected + tiny) & (expected - tiny <= high)):.3f} ({expected:.3g})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 300, 1000], help="on each side")
    parser.add_argument("--repetitions", type=int, default=400, help="of each situation and number of images")
    parser.add_argument("--only", nargs="+", choices=SITUATIONS, default=list(SITUATIONS), help="situations")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print("| situation | measure |" + "".join(f" N = {count:,} |" for count in options.images))
    print("|---|---|" + "---|" * len(options.images))
    with multiprocessing.get_context("spawn").Pool(options.processes, torch.set_num_threads, (1,)) as pool:
        for name in options.only:
            found = [
                pool.map(one, [(name, count, number) for number in range(options.repetitions)], chunksize=5)
                for count in options.images
            ]
            for measure in found[0][0]:
                cells = [coverage([row[measure] for row in rows]) for rows in found]
                print(f"| {name} | `{measure}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
