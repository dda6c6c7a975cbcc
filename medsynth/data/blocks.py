"""Contiguous blocks of slices as validation and test images, for few patients of many slices each.

Neighboring slices are nearly copies of each other: a slice that is held out by itself is known from those beside it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from medsynth.contracts import counter_seed
from medsynth.data.errors import DataError
from medsynth.data.table import natural

ORDERED_BY = ("series", "place", "patient", "file_number")  # the columns that slices are sorted by


@dataclasses.dataclass(frozen=True)
class SliceOrder:
    """The series of each image, and its place there.

    Attributes:
        series: equal for images that follow each other; the patient where only names tell the order.
        places: values that sort the images of a series; images of one place stay in one split.
        patients: whose series are cut at the same fractions of their length; the series where patients are not known.
    """

    series: Sequence[Hashable]
    places: Sequence[Any]
    patients: Sequence[Hashable]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Images in blocks.

    Attributes:
        rows: split name -> rows.
        left_out: the number of images beside the blocks that are in no split.
        cut: the number of series that were cut.
        whole: the number of series that are too short to be cut, and are training images.
        overlapping: the number of patients with several series of different lengths.
    """

    rows: dict[str, list[int]]
    left_out: int
    cut: int
    whole: int
    overlapping: int

    def sentence(self, gap: int) -> str:
        """Say what was cut, and what values of the held-out images mean."""
        whole = f", {self.whole:,} shorter ones are training images" if self.whole else ""
        overlapping = (
            f" {self.overlapping:,} patients have series of different lengths, each cut at the same fractions of its "
            "slices: where these do not show the same part of the body, choose one series of each."
            if self.overlapping
            else ""
        )
        return (
            f"Images are split by contiguous blocks of slices (data.split_by=blocks): {self.cut:,} series "
            f"{'is' if self.cut == 1 else 'are'} cut{whole}, and {self.left_out:,} slices beside the blocks are left "
            f"out (data.block_gap={gap}). Other slices of the same patients are trained on: values measured on those "
            f"that are held out say nothing about other patients.{overlapping}"
        )


def slice_order(columns: Mapping[str, Sequence[Any]], names: Sequence[str]) -> SliceOrder:
    """Return the order of slices: by position where the files tell it, else by the natural order of file names.

    By names the images of a patient are one series, whatever their folders; without patients all images are.

    Args:
        columns: ``ORDERED_BY`` of the images.
        names: of all files.
    """
    series, patients = columns["series"], columns["patient"]
    known = all(patients)
    if all(series):
        return SliceOrder(series, columns["place"], patients if known else series)
    places = [natural(PurePosixPath(names[int(number)]).stem)[0] for number in columns["file_number"]]
    owners = patients if known else [""] * len(places)
    return SliceOrder(owners, places, owners)


def hold_out_blocks(order: SliceOrder, fractions: Mapping[str, float], *, gap: int, seed: int) -> Blocks:
    """Hold out a block of neighboring slices of each series for each split, at a place that the seed draws.

    Between two splits ``gap`` slices are left out. Series of which these gaps would take more than is left for training
    are not cut. The place is a fraction of a series' length, drawn by the seed and the number of the patient in the
    data, so that series of one patient, and the two sides of unpaired data, are cut alike.

    Args:
        order: of the images.
        fractions: of each series that are held out: split name -> above 0.
        gap: slices.
        seed: of the places.

    Raises:
        DataError: no series is long enough.
    """
    members: dict[Hashable, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (series, place) in enumerate(zip(order.series, map(_hashable, order.places), strict=True)):
        members[series][place].append(row)
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(order.patients))}
    rows: dict[str, list[int]] = {name: [] for name in ("train", *fractions)}
    left_out, cut, lengths = 0, 0, defaultdict[Hashable, set[int]](set)
    for at in members.values():
        slices = [at[place] for place in sorted(at)]
        patient = order.patients[slices[0][0]]
        lengths[patient].add(len(slices))
        names = _names_of_slices(len(slices), fractions, gap=gap, seed=counter_seed("blocks", seed, numbers[patient]))
        cut += set(names) != {"train"}
        for name, own in zip(names, slices, strict=True):
            if name:
                rows[name] += own
            else:
                left_out += len(own)
    if not cut:
        raise _too_short(len(members), max(map(len, members.values())), fractions, gap)
    overlapping = sum(len(own) > 1 for own in lengths.values())
    return Blocks({name: sorted(own) for name, own in rows.items()}, left_out, cut, len(members) - cut, overlapping)


def _names_of_slices(count: int, fractions: Mapping[str, float], *, gap: int, seed: int) -> list[str]:
    """Return the split of each of ``count`` slices; "" for one that is left out."""
    names, lengths = ["train"] * count, _lengths(count, fractions)
    if not _can_be_cut(count, fractions, gap):
        return names
    span = sum(lengths.values()) + gap * (len(lengths) - 1)
    start = seed % 2**32 * (count - span + 1) // 2**32
    for slice_ in range(max(start - gap, 0), min(start + span + gap, count)):
        names[slice_] = ""
    for name, length in lengths.items():
        names[start : start + length] = [name] * length
        start += length + gap
    return names


def _lengths(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Return the number of slices of each block; validation needs two images."""
    return {name: max(2 if name == "val" else 1, round(fraction * count)) for name, fraction in fractions.items()}


def _can_be_cut(count: int, fractions: Mapping[str, float], gap: int) -> bool:
    """Return whether the gaps take at most half of the slices that are not held out, and leave two."""
    others = count - sum(_lengths(count, fractions).values())
    training = others - gap * (len(fractions) + 1)
    return training >= max(2, others / 2)


def _too_short(series: int, longest: int, fractions: Mapping[str, float], gap: int) -> DataError:
    least = next(count for count in itertools.count(1) if _can_be_cut(count, fractions, gap))
    return DataError(
        f"data.split_by=blocks cuts series of {least:,} slices and more with data.block_gap={gap}, and the longest of "
        f"{series:,} series has {longest:,}: type data.split_by=patient, or data.split_by=image."
    )


def _hashable(place: Any) -> Any:
    return tuple(place) if isinstance(place, list) else place
