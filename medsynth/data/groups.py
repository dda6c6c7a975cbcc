"""Groups of images that stay in one split: patients, and duplicates across patients."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from medsynth.data.errors import DataError

JOIN_DUPLICATES = ("near", "exact", "none")
MOST_PATIENTS = 10  # that duplicates join; an image that more of them share is a kind of image, such as a blank frame


@dataclasses.dataclass(frozen=True)
class Groups:
    """The group of each image, and the reasons for it.

    Attributes:
        keys: of the images' groups.
        of_patients: groups are made of patients, not of images.
        joined: patients that share duplicates with other patients.
        into: groups that these became.
        blank: rows of duplicates of little content, which join no patients.
        shared: rows of duplicates that more than ``MOST_PATIENTS`` patients share, which join no patients either.
    """

    keys: Sequence[str] | Sequence[int]
    of_patients: bool = False
    joined: int = 0
    into: int = 0
    blank: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of groups."""
        return len(set(self.keys))

    def sentences(self) -> Iterator[str]:
        """Yield sentences about patients that were joined, and about duplicates that join none."""
        if self.joined:
            kind = f"group{'s' * (self.into > 1)}"
            yield (
                f"{self.joined:,} patients share near or exact copies of images and are split as {self.into:,} {kind} "
                "(data.join_duplicates)."
            )
        for rows, reason in (
            (self.blank, "show nearly nothing"),
            (self.shared, f"occur in more than {MOST_PATIENTS} patients"),
        ):
            if rows:
                yield f"{len(rows):,} images with copies in several patients {reason}: they join no patients."


def image_groups(
    patients: Sequence[str], digests: Sequence[str], duplicates: Sequence[int] | None, blank: np.ndarray, *, by: str
) -> Groups:
    """Join the patients, or the exact copies of an image, that have duplicates in common.

    Args:
        patients: keys of patients; "" where not known.
        digests: of the pixels.
        duplicates: equal numbers for duplicates (``duplicates.clusters``); None: patients are not joined.
        blank: bool ``(N,)``: images of little content, which join no patients.
        by: an option of ``data.split_by``.

    Raises:
        DataError: patients are asked for and not known.
    """
    known = all(patients) and len(set(patients)) > 1
    if by == "patient" and not known:
        missing = sum(not patient for patient in patients)
        raise DataError(
            f"data.split_by=patient needs patients: {missing} of {len(patients)} images have none, and "
            f"{len(set(filter(None, patients)))} are known; set data.patient_pattern, or data.split_by=image."
        )
    of_patients = known and by not in ("image", "blocks")
    if duplicates is None:
        return Groups(patients if of_patients else digests, of_patients)
    if not of_patients:
        return Groups(duplicates)
    return _joined_patients(patients, duplicates, blank)


def _joined_patients(patients: Sequence[str], duplicates: Sequence[int], blank: np.ndarray) -> Groups:
    """Join patients by a search for the representative of each (union-find)."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(duplicates):
        members[number].append(row)
    representative = {patient: patient for patient in patients}

    def find(patient: str) -> str:
        while representative[patient] != patient:
            representative[patient] = representative[representative[patient]]
            patient = representative[patient]
        return patient

    without_content: list[int] = []
    shared: list[int] = []
    for rows in members.values():
        owners = sorted({patients[row] for row in rows})
        if len(owners) < 2:
            continue
        if blank[rows].any():
            without_content += rows
        elif len(owners) > MOST_PATIENTS:
            shared += rows
        else:
            for owner in owners[1:]:
                representative[find(owner)] = find(owners[0])
    sizes: dict[str, int] = defaultdict(int)
    for patient in representative:
        sizes[find(patient)] += 1
    joined = [size for size in sizes.values() if size > 1]
    keys = [find(patient) for patient in patients]
    return Groups(keys, True, sum(joined), len(joined), tuple(without_content), tuple(shared))
