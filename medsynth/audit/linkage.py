"""Re-identification of patients: do generated images link the images of a patient with each other?

An adversary has an image of a person and looks for other images of that person in a data set, through the generated
images alone: from the image to the nearest generated one, and from that to the nearest other image of the data set. The
link is right where that is of the same person. Images of one person resemble each other, so that some links are right
for anyone: the control are held-out patients, in a data set of held-out images of the same size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from medsynth.audit.measures import AuditMeasure
from medsynth.audit.spaces import Nearness, Spaces
from medsynth.audit.statistics import RESAMPLES, stats
from medsynth.contracts import counter_seed
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.interval import Estimate

LEAST_PATIENTS = 10  # with two images or more, on each side
_RULE = (
    "Right links from a training image through the nearest generated image to another training image of its patient, "
    "mean over patients; control: the same with held-out patients among as many held-out images. It counts where "
    "patients that change sides at random have so large a difference in 1 % of trials or less (Bonferroni over spaces)."
)


def same_size(training: ImageSet, held_out: ImageSet, seed: int) -> tuple[ImageSet, ImageSet] | None:
    """Return as many patients of both sides, those with two images or more; None: there are too few, or none known.

    The sets have names of their own, by which the store of features tells them from those that they are parts of.
    """
    sides = [_numbers_of_patients(images.groups) for images in (training, held_out)]
    count = min(len(patients) for patients in sides)
    if count < LEAST_PATIENTS:
        return None
    random = np.random.default_rng(counter_seed("patients", seed))
    chosen = [
        np.concatenate([patients[number] for number in np.sort(random.permutation(len(patients))[:count])])
        for patients in sides
    ]
    first, second = (
        dataclasses.replace(images.subset(rows), name=f"patients of {images.name}")
        for images, rows in zip((training, held_out), chosen, strict=True)
    )
    return first, second


def _numbers_of_patients(groups: np.ndarray | None) -> list[np.ndarray]:
    if groups is None:
        return []
    numbers = np.unique(groups, return_inverse=True)[1]
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    return [rows for rows in members if len(rows) > 1]


def linkage(spaces: Spaces, training: ImageSet, held_out: ImageSet, fake: ImageSet, *, seed: int) -> list[AuditMeasure]:
    """Measure right links of training patients against those of held-out patients, in each space.

    Args:
        spaces: in which images are compared.
        training: the first of ``same_size``.
        held_out: the second.
        fake: the generated images.
        seed: of resampling.
    """
    rates = [_rates(spaces.nearest(real, fake), spaces.nearest(fake, real), real) for real in (training, held_out)]
    measures: list[AuditMeasure] = []
    for name in spaces.names:
        own, control = (side[name] for side in rates)
        random = np.random.default_rng(counter_seed("linkage", seed))
        measures.append(
            AuditMeasure(
                f"linkage_{name}",
                _mean(own, random),
                _mean(control, random),
                training.count,
                held_out.count,
                min(1.0, len(spaces.names) * _p(own, control, random)),
                "linkage",
                _RULE,
            )
        )
    return measures


def _rates(to_fake: Mapping[str, Nearness], from_fake: Mapping[str, Nearness], real: ImageSet) -> dict[str, np.ndarray]:
    """Return the share of right links of each patient, by space."""
    assert real.groups is not None
    groups, own = real.groups, np.arange(real.count)
    number = np.unique(groups, return_inverse=True)[1]
    rates: dict[str, np.ndarray] = {}
    for name, nearness in to_fake.items():
        rows = from_fake[name].rows[nearness.row]
        linked = np.where(rows[:, 0] == own, rows[:, 1], rows[:, 0])
        rates[name] = np.bincount(number, groups[linked] == groups) / np.bincount(number)
    return rates


def _mean(rates: np.ndarray, random: np.random.Generator) -> Estimate:
    means = rates[random.integers(len(rates), size=(RESAMPLES, len(rates)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(rates.mean()), float(low), float(high))


def _p(rates: np.ndarray, control: np.ndarray, random: np.random.Generator) -> float:
    both = np.concatenate([rates, control])
    differences = [_difference(random.permutation(both), len(rates)) for _ in range(RESAMPLES)]
    spread = max(float(np.std(differences)), 1e-12)
    return float(stats.norm.sf(_difference(both, len(rates)) / spread))


def _difference(rates: np.ndarray, count: int) -> float:
    return float(rates[:count].mean() - rates[count:].mean())
