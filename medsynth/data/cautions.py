"""Cautions about data from which numbers mean little: few held-out images, few patients, unequal classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

FEW_IMAGES = 100  # for validation, below which a Fréchet distance or a rate varies much by chance
FEW_PATIENTS = 5  # for validation or testing
UNEQUAL = 10  # training images of the largest class for one of the smallest
_MOST_HELD_OUT = 0.5  # fraction of the images that is proposed for validation
_LISTED = 6


def cautions(
    images: Mapping[str, int],
    *,
    labels: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    patients: Mapping[str, int] | None,
    given: Collection[str],
    balanced: bool,
) -> tuple[str, ...]:
    """Return sentences that say which numbers mean little and what to type.

    Args:
        images: split name -> number of images.
        labels: split name -> label of each image, where there are labels.
        class_names: in the order of the labels.
        patients: split name -> number of patients, where images are split by patient.
        given: names of splits that the data gives.
        balanced: all classes are drawn equally often.
    """
    counts = {name: Counter(own) for name, own in labels.items()}
    return (
        *_about_validation(images, given),
        *_about_patients(images, patients or {}, given),
        *(_about_classes(counts, class_names, given, balanced) if len(class_names) > 1 and "train" in counts else ()),
    )


def _about_validation(images: Mapping[str, int], given: Collection[str]) -> Iterator[str]:
    held_out, total = images.get("val", 0), images.get("train", 0) + images.get("val", 0)
    if held_out >= FEW_IMAGES:
        return
    enough = _MOST_HELD_OUT * total >= FEW_IMAGES
    fraction = math.ceil(100 * FEW_IMAGES / total) / 100 if enough else 0.3
    yield (
        f"{held_out} validation images are few: values measured on them vary much by chance, and small differences "
        f"between runs mean nothing. {_more('val', fraction, given)}, and compare several seeds (vary=seeds)."
    )


def _about_patients(images: Mapping[str, int], patients: Mapping[str, int], given: Collection[str]) -> Iterator[str]:
    for split, name, fraction in (("val", "validation", 0.3), ("test", "test", 0.2)):
        count = patients.get(split, 0)
        if images.get(split) and 0 < count < FEW_PATIENTS:
            people, they = ("patient", "this patient") if count == 1 else ("patients", "these patients")
            yield (
                f"The {images[split]} {name} images are of {count} {people}: values measured on them describe {they} "
                f"and not the data. {_more(split, fraction, given)}."
            )


def _more(split: str, fraction: float, given: Collection[str]) -> str:
    if split in given:
        return "Add images to this split of the data"
    return f"Type data.{split}_fraction={fraction:g} to hold out more, or add images"


def _about_classes(
    counts: Mapping[str, Counter[int]], names: Sequence[str], given: Collection[str], balanced: bool
) -> Iterator[str]:
    train = counts["train"]
    by_size = sorted(range(len(names)), key=lambda label: train[label])
    empty = [names[label] for label in by_size if not train[label]]
    if empty:
        yield (
            f"No training image is of the classes {_listed(empty)}, which conditional=true cannot learn: add some, or "
            f"take these classes out of the data."
        )
    present = [label for label in by_size if train[label]]
    if present and train[present[-1]] >= UNEQUAL * train[present[0]] and not balanced:
        yield (
            f"The classes are unequal: {train[present[-1]]:,} training images of {names[present[-1]]}, "
            f"{train[present[0]]:,} of {names[present[0]]}. Type data.balance_classes=true to draw all classes equally "
            f"often; measures stay those of the frequent classes, and per_class=true measures each."
        )
    missing = [names[label] for label in range(len(names)) if counts.get("val") and counts["val"][label] < 2]
    if missing:
        yield (
            f"Fewer than 2 validation images are of {_listed(missing)}: nothing is known about how well that is "
            f"learned. {_more('val', 0.3, given)}."
        )


def _listed(names: Sequence[str]) -> str:
    others = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {others} more" if others > 0 else "")
