"""Which images are held out: by patient where patients are known, stratified by class, drawn by the images' content."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from medsynth.contracts import InputError, counter_seed
from medsynth.data.reading import SPLITS

BY = ("auto", "patient", "image")


def split(
    *,
    labels: Sequence[int],
    patients: Sequence[str],
    digests: Sequence[str],
    given: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    by: str,
    seed: int,
) -> dict[str, list[int]]:
    """Split name -> rows. Those held out mix the classes, so that the first of them show all.

    All images of a patient, and all exact copies of an image, fall on the same side. A group draws its number from the
    content of its images, not from their names or places: it stays on its side when files are renamed or others come,
    as far as the fractions allow. Where the data gives splits they hold; one that it lacks is taken from its ``train``.

    Args:
        labels: of the rows; all 0 where there are none.
        patients: keys of patients; "" where not known.
        digests: of the pixels.
        given: "train", "val", "test", or "".
        val_fraction: part of each class's images for validation; at least 2 images in all.
        test_fraction: part that neither training nor validation sees.
        by: ``auto`` (by patient where all images have one and there are several), ``patient`` or ``image``.
        seed: chooses which.

    Raises:
        InputError: too few images or patients for what is asked.
    """
    groups = _groups(patients, digests, by)
    rows: dict[str, list[int]] = {name: [i for i, where in enumerate(given) if where == name] for name in SPLITS}
    rows["train"] += [i for i, where in enumerate(given) if not where]
    # Test images come from the other end, so that holding them out leaves validation as it was.
    of_the_rest = test_fraction / (1 - val_fraction)
    for name, fraction, reverse in (("val", val_fraction, False), ("test", of_the_rest, True)):
        if not rows[name] and fraction > 0:
            least = 2 if name == "val" else 1
            taken = _held_out(rows["train"], labels, groups, digests, fraction, least=least, seed=seed, reverse=reverse)
            rows[name] = sorted(taken)
            rows["train"] = sorted(set(rows["train"]) - taken)
    if len(rows["train"]) < 2 or len(rows["val"]) < 2:
        what = "patients" if groups is patients else "images"
        raise InputError(
            f"The {len(labels)} images of {len(set(groups))} {what} are too few to be split: training and validation "
            f"need 2 images each; give more, or data.split_by=image."
        )
    for name in ("val", "test"):
        rows[name].sort(key=lambda row: counter_seed("order", seed, digests[row], row))
    return rows


def _groups(patients: Sequence[str], digests: Sequence[str], by: str) -> Sequence[str]:
    """What must not be torn apart: the patient, or the exact copies of an image."""
    known = all(patients) and len(set(patients)) > 1
    if by == "patient" and not known:
        missing = sum(not patient for patient in patients)
        raise InputError(
            f"data.split_by=patient needs patients: {missing} of {len(patients)} images have none, and "
            f"{len(set(filter(None, patients)))} are known; set data.patient_pattern, or data.split_by=image."
        )
    return patients if known and by != "image" else digests


def _held_out(
    rows: Sequence[int],
    labels: Sequence[int],
    groups: Sequence[str],
    digests: Sequence[str],
    fraction: float,
    *,
    least: int,
    seed: int,
    reverse: bool,
) -> set[int]:
    members: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        members[groups[row]].append(row)
    strata: dict[int, list[str]] = defaultdict(list)
    for group, inside in members.items():
        strata[Counter(labels[row] for row in inside).most_common(1)[0][0]].append(group)

    def draw(group: str) -> int:
        return counter_seed("split", seed, min(digests[row] for row in members[group]))

    taken: set[int] = set()
    left: list[str] = []
    for label in sorted(strata):
        order = sorted(strata[label], key=draw, reverse=reverse)
        chosen = _nearest([len(members[group]) for group in order], fraction)
        taken.update(row for position in chosen for row in members[order[position]])
        left += [group for position, group in enumerate(order) if position not in chosen]
    # Small strata leave none: then the smallest groups of all go, as long as two are left to train on.
    left.sort(key=lambda group: len(members[group]), reverse=True)
    while len(taken) < least and len(left) > 1:
        taken.update(members[left.pop()])
    return taken


def _nearest(sizes: Sequence[int], fraction: float) -> set[int]:
    """Positions of the groups, from the first on, that together come nearest to the fraction; at least 1, never all."""
    wanted, chosen, count = max(1.0, sum(sizes) * fraction), set(), 0
    for position, size in enumerate(sizes):
        if len(chosen) + 1 < len(sizes) and abs(count + size - wanted) < abs(count - wanted):
            chosen.add(position)
            count += size
    if not chosen and len(sizes) > 1:
        chosen = {min(range(len(sizes)), key=lambda position: sizes[position])}
    return chosen
