"""Splits into training, validation and test images: by patient where patients are known, stratified by class."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property

from medsynth.contracts import counter_seed
from medsynth.data.blocks import Blocks, SliceOrder, hold_out_blocks
from medsynth.data.errors import DataError, check_choice, check_least
from medsynth.data.groups import JOIN_DUPLICATES, Groups
from medsynth.data.reading import SPLITS
from medsynth.errors import InputError

SPLIT_BY = ("auto", "patient", "image", "blocks")
AUTO = "auto"
TEST_FROM = 1000  # images from which on test images are held out by themselves
TEST_FROM_PATIENTS = 30  # groups of patients, likewise
_LARGEST_AUTOMATIC = 0.25  # data.val_fraction up to which they are: at least half of the images remain for training


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options of how images are held out.

    The fields are options of data=; conf/data/base/files.yaml describes them. ``split_seed`` is not the run's seed, so
    that runs with several seeds are compared on the same images.

    Raises:
        InputError: an option has an impossible value.
    """

    val_fraction: float = 0.1
    test_fraction: float | str = AUTO
    split_by: str = "auto"
    block_gap: int = 2
    split_seed: int = 0
    patient_pattern: str | None = None
    drop_duplicates: bool = False
    join_duplicates: str = "near"

    def __post_init__(self) -> None:
        check_choice("data.split_by", self.split_by, SPLIT_BY)
        check_choice("data.join_duplicates", self.join_duplicates, JOIN_DUPLICATES)
        check_least("data.block_gap", self.block_gap, 0)
        val, test = self.val_fraction, 0.0 if self.test_fraction == AUTO else self.test_fraction
        if isinstance(test, str) or not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
            raise InputError(
                f"data.val_fraction={val} and data.test_fraction={test} are not possible: they are fractions of the "
                f"images, the first above 0 and their sum below 1; the second may be {AUTO}."
            )
        _compiled(self.patient_pattern)

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """The compiled ``patient_pattern``."""
        return _compiled(self.patient_pattern)


@dataclasses.dataclass(frozen=True)
class TestFraction:
    """The fraction of all images that is held out for testing, and the reason in words."""

    fraction: float
    reason: str


def choose_test_fraction(options: SplitOptions, *, groups: Groups, given: Sequence[str]) -> TestFraction:
    """Decide whether images are held out for testing.

    With data.test_fraction=auto they are where enough images and patients remain for training and validation, and where
    the data gives no splits of its own.
    """
    if isinstance(options.test_fraction, int | float):
        reason = f"data.test_fraction={options.test_fraction:g}"
        return TestFraction(float(options.test_fraction), "given by the data" if "test" in given else reason)
    if any(given):
        return TestFraction(
            0.0, "given by the data" if "test" in given else "the data gives its own splits, without test images"
        )
    if len(given) < TEST_FROM:
        return TestFraction(0.0, f"fewer than {TEST_FROM:,} images: all that are held out are for validation")
    if groups.of_patients and groups.count < TEST_FROM_PATIENTS:
        kind = "groups of patients" if groups.joined else "patients"
        return TestFraction(0.0, f"fewer than {TEST_FROM_PATIENTS} {kind}: all that are held out are for validation")
    if options.val_fraction > _LARGEST_AUTOMATIC:
        return TestFraction(0.0, f"data.val_fraction={options.val_fraction:g} leaves too few images for training")
    return TestFraction(
        options.val_fraction, "validation images select the best generator, and evaluate measures it on these"
    )


def split(
    options: SplitOptions,
    *,
    labels: Sequence[int],
    groups: Groups,
    digests: Sequence[str],
    given: Sequence[str],
) -> dict[str, list[int]]:
    """Return the rows of each split. Validation and test rows mix the classes, so that the first rows show all.

    All images of a group stay in one split. A group's random number comes from the content of its images and not from
    names or order: the group keeps its split when files are renamed or added, as far as the fractions allow. Splits
    given by the data are kept; a missing one is taken from its ``train``. Images that join no groups although they have
    exact copies in others are left out of it where a copy is elsewhere.

    Args:
        options: the fractions and the seed.
        labels: of the rows; all 0 without labels.
        groups: of the rows.
        digests: of the pixels.
        given: "train", "val", "test", or "" where the data gives no split.

    Raises:
        DataError: there are too few images or groups.
    """
    val_fraction, seed = options.val_fraction, options.split_seed
    rows: dict[str, list[int]] = {name: [i for i, own in enumerate(given) if own == name] for name in SPLITS}
    rows["train"] += [i for i, own in enumerate(given) if not own]
    # Test images come from the other end of the order, so that holding them out does not change validation.
    test_fraction_of_rest = choose_test_fraction(options, groups=groups, given=given).fraction / (1 - val_fraction)
    for name, fraction, reverse in (("val", val_fraction, False), ("test", test_fraction_of_rest, True)):
        if not rows[name] and fraction > 0:
            least = 2 if name == "val" else 1
            keys = groups.keys
            taken = _held_out(rows["train"], labels, keys, digests, fraction, least=least, seed=seed, reverse=reverse)
            rows["train"] = sorted(set(rows["train"]) - taken)
            elsewhere = [row for own in rows.values() for row in own]
            rows[name] = sorted(taken - _copies_of(elsewhere, taken, groups, digests))
    if len(rows["train"]) < 2 or len(rows["val"]) < 2:
        raise _too_few(options, len(labels), groups)
    return _mixed(rows, digests, seed)


def split_by_blocks(
    options: SplitOptions, *, order: SliceOrder, groups: Groups, digests: Sequence[str], given: Sequence[str]
) -> Blocks | None:
    """Return the rows of each split as contiguous blocks of slices, validation and test rows mixed as by ``split``.

    Splits given by the data are kept; a missing one is cut out of its ``train``. None: none is missing.

    Raises:
        DataError: no series is long enough.
    """
    rest = [row for row, name in enumerate(given) if name in ("", "train")]
    fractions = {
        "val": options.val_fraction,
        "test": choose_test_fraction(options, groups=groups, given=given).fraction,
    }
    fractions = {name: value for name, value in fractions.items() if value > 0 and name not in given}
    if not fractions:
        return None
    part = SliceOrder(*([column[row] for row in rest] for column in (order.series, order.places, order.patients)))
    found = hold_out_blocks(part, fractions, gap=options.block_gap, seed=options.split_seed)
    rows = {name: [row for row, own in enumerate(given) if own == name] for name in SPLITS}
    rows |= {name: [rest[position] for position in own] for name, own in found.rows.items()}
    return dataclasses.replace(found, rows=_mixed(rows, digests, options.split_seed))


def _mixed(rows: dict[str, list[int]], digests: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Sort validation and test rows by chance, so that the first rows show all."""
    for name in ("val", "test"):
        rows[name].sort(key=lambda row: counter_seed("order", seed, digests[row], row))
    return rows


def _too_few(options: SplitOptions, count: int, groups: Groups) -> DataError:
    kind = "groups of patients" if groups.of_patients else "different images"
    divided = {"near": "exact", "exact": "none"}.get(options.join_duplicates)
    return DataError(
        f"The {count} images ({groups.count} {kind}) are too few to be split: training and validation need 2 images "
        "each; add images, or set data.split_by=image"
        + (f", or data.join_duplicates={divided}, which divides duplicates." if divided else ".")
    )


def _copies_of(elsewhere: Sequence[int], held_out: set[int], groups: Groups, digests: Sequence[str]) -> set[int]:
    """Return the held-out rows that are exact copies of rows elsewhere although their groups differ."""
    separate = held_out & {*groups.blank, *groups.shared}
    known = {digests[row] for row in elsewhere} if separate else set[str]()
    return {row for row in separate if digests[row] in known}


def _held_out(
    rows: Sequence[int],
    labels: Sequence[int],
    groups: Sequence[str] | Sequence[int],
    digests: Sequence[str],
    fraction: float,
    *,
    least: int,
    seed: int,
    reverse: bool,
) -> set[int]:
    """Choose groups of rows that together come nearest to ``fraction`` in each class, ``least`` rows at least."""
    members: dict[str | int, list[int]] = defaultdict(list)
    for row in rows:
        members[groups[row]].append(row)
    strata: dict[int, list[str | int]] = defaultdict(list)
    for group, inside in members.items():
        strata[Counter(labels[row] for row in inside).most_common(1)[0][0]].append(group)

    def draw(group: str | int) -> int:
        return counter_seed("split", seed, min(digests[row] for row in members[group]))

    taken: set[int] = set()
    left: list[str | int] = []
    for label in sorted(strata):
        order = sorted(strata[label], key=draw, reverse=reverse)
        chosen = _nearest([len(members[group]) for group in order], fraction)
        taken.update(row for position in chosen for row in members[order[position]])
        left += [group for position, group in enumerate(order) if position not in chosen]
    # Small classes may hold out nothing: then the smallest groups of all are taken, as long as two remain.
    left.sort(key=lambda group: len(members[group]), reverse=True)
    while len(taken) < least and len(left) > 1:
        taken.update(members[left.pop()])
    return taken


def _nearest(sizes: Sequence[int], fraction: float) -> set[int]:
    """Return positions of groups, in order, that together come nearest to the fraction: at least 1, never all."""
    target, chosen, count = max(1.0, sum(sizes) * fraction), set[int](), 0
    for position, size in enumerate(sizes):
        if len(chosen) + 1 < len(sizes) and abs(count + size - target) < abs(count - target):
            chosen.add(position)
            count += size
    if not chosen and len(sizes) > 1:
        chosen = {min(range(len(sizes)), key=lambda position: sizes[position])}
    return chosen


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"data.patient_pattern={pattern} is not a regular expression ({error}): write one such as '(P[0-9]+)_'."
        ) from error
