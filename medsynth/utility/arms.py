"""Arms of a comparison: the images that each of the networks is trained on, at equal optimization steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medsynth.contracts import InputError, counter_seed

REAL, AUGMENTED, DUPLICATED, MIXED, SYNTHETIC = "real", "augmented", "duplicated", "mixed", "synthetic"
LABELS = {
    REAL: "real",
    AUGMENTED: "real, augmented",
    DUPLICATED: "real, duplicated",
    MIXED: "real + synthetic",
    SYNTHETIC: "synthetic only",
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to choose training images.

    Attributes:
        kind: ``real``; ``augmented``: real with simple augmentation; ``duplicated``: real images and copies of them;
            ``mixed``: real and synthetic images; ``synthetic``: as many synthetic images as there are real ones.
        ratio: copies or synthetic images for each real image.
    """

    kind: str
    ratio: float = 0.0

    @property
    def name(self) -> str:
        """The name in records: ``mixed_0.25``."""
        return f"{self.kind}_{self.ratio:g}" if self.ratio else self.kind

    @property
    def label(self) -> str:
        """The name for people: ``real + synthetic 1:0.25``."""
        return f"{LABELS[self.kind]} 1:{self.ratio:g}" if self.ratio else LABELS[self.kind]

    def added(self, size: int) -> int:
        """Return the number of copies or synthetic images beside ``size`` real ones."""
        return max(1, round(size * self.ratio)) if self.ratio else 0


class Members(NamedTuple):
    """The images of an arm: positions among the real and among the synthetic images, repeated for copies."""

    real: np.ndarray
    synthetic: np.ndarray

    @property
    def count(self) -> int:
        """The number of images, copies included."""
        return len(self.real) + len(self.synthetic)


def all_arms(ratios: Sequence[float]) -> tuple[Arm, ...]:
    """Return all arms of a comparison: each ratio has its control of the same count.

    Raises:
        InputError: a ratio is not above 0, or there is none.
    """
    if not ratios or min(ratios) <= 0:
        raise InputError(f"ratios={list(ratios)} must be numbers above 0, such as ratios=[0.25,1,5].")
    each = sorted(set(ratios))
    pairs = [Arm(kind, ratio) for kind in (DUPLICATED, MIXED) for ratio in each]
    return (Arm(REAL), Arm(AUGMENTED), *pairs, Arm(SYNTHETIC))


def members(arm: Arm, size: int, *, real: np.ndarray, synthetic: np.ndarray, seed: int) -> Members:
    """Choose the images of an arm.

    Args:
        arm: the arm.
        size: number of real images.
        real: positions of real images (N,), of which the first ``size`` are taken.
        synthetic: positions of synthetic images, of which the first ones are taken.
        seed: of the choice of copies.
    """
    none, own, added = np.empty(0, dtype=np.int64), real[:size], arm.added(size)
    if arm.kind == SYNTHETIC:
        return Members(none, synthetic[:size])
    if arm.kind == MIXED:
        return Members(own, synthetic[:added])
    if arm.kind == DUPLICATED:
        random = np.random.default_rng(counter_seed("utility", "copies", seed, size))
        whole, rest = divmod(added, size)
        copies = [np.tile(own, whole), random.permutation(own)[:rest]]
        return Members(np.concatenate([own, *copies]), none)
    return Members(own, none)


def mixed_order(labels: np.ndarray | None, patients: np.ndarray | None, count: int, *, seed: int) -> np.ndarray:
    """Return a random order (count,) in which all first parts have nearly the classes' shares of the whole.

    Where patients are known, the images of one follow each other within a class: the first part has few patients.
    """
    random = np.random.default_rng(counter_seed("utility", "order", seed))
    units = np.arange(count) if patients is None else np.unique(patients, return_inverse=True)[1]
    order = np.lexsort((random.random(count), random.permutation(int(units.max()) + 1)[units]))
    if labels is None:
        return order
    place = np.empty(count)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        place[own] = (np.arange(len(own)) + random.random()) / len(own)
    return np.argsort(place, kind="stable")


def default_sizes(count: int, classes: int) -> list[int]:
    """Return at most four sizes of the real set, each a third of the next one, the largest all ``count`` images."""
    sizes = [round(count / 3**power) for power in (3, 2, 1, 0)]
    return [size for size in sizes if size >= 4 * max(classes, 1)] or [count]
