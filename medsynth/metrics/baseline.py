"""The real-vs-real baseline: the value that a measure has between real images and other real images.

Most measures depend on the number of images, so that a baseline means something at equal numbers only. Both the
baseline and the value of the generated images that it is compared with are taken at the same number of images on both
sides, and averaged over random subsets where there are more images than that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from medsynth.contracts import counter_seed

LARGEST = 5000  # images on each side
SUBSETS = 10
IMAGES = 10_000  # on each side in all subsets together, so that large sets take no longer

Values = Callable[[np.ndarray, np.ndarray], dict[str, float]]  # features of two sides of n images -> values by name


class Sides(NamedTuple):
    """Features, float32 (N, d), of all sides; ``training`` is None where there is none apart from the reference."""

    real: np.ndarray
    fake: np.ndarray
    training: np.ndarray | None

    def of_class(self, labels: Sides, number: int) -> Sides:
        """Return the rows whose labels, (N,) on each side, are ``number``."""

        def chosen(rows: np.ndarray, of_rows: np.ndarray) -> np.ndarray:
            return rows[np.asarray(of_rows) == number]

        training = None
        if self.training is not None and labels.training is not None:
            training = chosen(self.training, labels.training)
        return Sides(chosen(self.real, labels.real), chosen(self.fake, labels.fake), training)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Values of real against real images, and of real against generated images at the same numbers.

    Attributes:
        count: images on each side.
        of_real: values of real images against other real images, by name.
        of_fake: values of generated images against real ones, at these numbers.
    """

    count: int
    of_real: dict[str, float]
    of_fake: dict[str, float]


class Subset(NamedTuple):
    """Features of equally many images: real ones, other real ones, and generated ones."""

    real: np.ndarray
    other_real: np.ndarray
    fake: np.ndarray


def subset_size(sides: Sides) -> int:
    """Return the number of images on each side of the baseline: the largest that all sides have, 5,000 at most."""
    return max(_with_training(sides), _with_halves(sides))


def _with_training(sides: Sides) -> int:
    """Return the number where the other real images are training images."""
    return 0 if sides.training is None else min(len(sides.real), len(sides.fake), len(sides.training), LARGEST)


def _with_halves(sides: Sides) -> int:
    """Return the number where the other real images are half of the reference."""
    return min(len(sides.real) // 2, len(sides.fake), LARGEST)


def subsets(sides: Sides, *, seed: int) -> Iterator[Subset]:
    """Yield random subsets of ``subset_size`` images of each side; a single one where it takes all images."""
    count = subset_size(sides)
    halves = _with_halves(sides) > _with_training(sides)
    is_whole = not halves and all(rows is not None and len(rows) == count for rows in sides)
    random = np.random.default_rng(counter_seed("baseline", seed))
    for _ in range(1 if is_whole else max(1, min(SUBSETS, IMAGES // count))):
        order = random.permutation(len(sides.real))
        fake = _drawn(sides.fake, count, random)
        if halves or sides.training is None:
            other = sides.real[np.sort(order[count : 2 * count])]
        else:
            other = _drawn(sides.training, count, random)
        yield Subset(sides.real[np.sort(order[:count])], other, fake)


def _drawn(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return rows[np.sort(random.permutation(len(rows))[:count])]


def baseline(values: Values, sides: Sides, *, seed: int) -> Baseline | None:
    """Average ``values`` over the subsets; None where there are fewer than two images for each side."""
    count = subset_size(sides)
    if count < 2:
        return None
    of_real: list[dict[str, float]] = []
    of_fake: list[dict[str, float]] = []
    for subset in subsets(sides, seed=seed):
        of_real.append(values(subset.real, subset.other_real))
        of_fake.append(values(subset.real, subset.fake))
    return Baseline(count, _means(of_real), _means(of_fake))


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
