"""Cautions about sets of images from which measures say little: few images, few patients, unequal classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medsynth.data.cautions import FEW_IMAGES, FEW_PATIENTS, UNEQUAL
from medsynth.evaluation.evaluation_sets import EvaluationSets


def cautions(sets: EvaluationSets, *, per_class: bool) -> Iterator[str]:
    """Yield sentences that say which measures mean little and what to do.

    Args:
        sets: what is compared.
        per_class: each class is measured by itself, too.
    """
    more_real, more_fake = "add some", "generate more"
    if sets.split is not None:  # of a run
        more_real = "hold out more in a new training (data.test_fraction=)"
        more_fake = f"type num_samples={FEW_IMAGES} or more"
    sides = (("reference", sets.real.count, more_real), ("generated", sets.fake.count, more_fake))
    for name, count, more in sides:
        if count < FEW_IMAGES:
            yield (
                f"{count} {name} images are few: values measured on them vary much by chance, and small differences "
                f"mean nothing: {more}."
            )
    if sets.patients is not None and 0 < sets.patients < FEW_PATIENTS:
        people = "1 patient" if sets.patients == 1 else f"{sets.patients} patients"
        yield (
            f"The {sets.real.count:,} reference images are of {people}: the measures describe these images and not the "
            "data: hold out more in a new training (data.test_fraction=)."
        )
    if sets.real.labels is not None and len(sets.class_names) > 1 and not per_class:
        yield from _about_classes(sets, sets.real.labels)


def _about_classes(sets: EvaluationSets, labels: np.ndarray) -> Iterator[str]:
    counts = np.bincount(labels, minlength=len(sets.class_names))
    present = np.flatnonzero(counts)
    most, least = (int(present[choose(counts[present])]) for choose in (np.argmax, np.argmin))
    if counts[most] >= UNEQUAL * counts[least]:
        each = " Type per_class=true to measure each." if sets.fake.labels is not None else ""
        yield (
            f"The classes of the reference are unequal, {counts[most]:,} images of {sets.class_names[most]} and "
            f"{counts[least]:,} of {sets.class_names[least]}: the measures are those of the frequent classes.{each}"
        )
