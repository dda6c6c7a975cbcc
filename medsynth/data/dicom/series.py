"""The order of the slices in a series, and the selection of some of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from medsynth.data.dicom.headers import Header, SlicePosition


def by_series(headers: Sequence[Header], *, every: int, skip_ends: int) -> list[Header]:
    """Sort the files by patient, study, series and slice, and leave out slices that are not selected.

    Files of several frames follow the slices of their series. Their frames are sorted and selected when they are read.
    """
    return [header for files in grouped(headers, every=every, skip_ends=skip_ends) for header in files]


def grouped(headers: Sequence[Header], *, every: int, skip_ends: int) -> list[list[Header]]:
    """Return the files of each series in the order of ``by_series``."""
    series: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        series[_series(header)].append(header)
    result = []
    for _, files in sorted(series.items()):
        slices = [header for header in files if header.frames == 1]
        positions = [header.position for header in slices]
        order = selected(positions, every=every, skip_ends=skip_ends) if len(slices) > 1 else range(len(slices))
        result.append([slices[index] for index in order] + [header for header in files if header.frames > 1])
    return result


def places(headers: Sequence[Header]) -> list[tuple[str, int]]:
    """Return the series of each file and its slice's place there, counted from 0; equal positions are one place.

    A file of several frames is a series of its own.

    Args:
        headers: in the order of ``by_series``.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, header in enumerate(headers):
        own = _series(header) if header.frames == 1 else (*_series(header), header.name)
        members[" ".join(own)].append(number)
    result = [("", 0)] * len(headers)
    for name, numbers in members.items():
        locations = _locations([headers[number].position for number in numbers])
        alike = len(set(locations)) == 1
        ranks = {location: rank for rank, location in enumerate(sorted(set(locations)))}
        for rank, (number, location) in enumerate(zip(numbers, locations, strict=True)):
            result[number] = name, rank if alike else ranks[location]
    return result


def _series(header: Header) -> tuple[str, str, str]:
    """Return what tells a file's series from others; a file without one belongs to those in its folder."""
    return header.patient, header.study, header.series or f"folder {header.name.rpartition('/')[0]}"


def in_order(positions: Sequence[SlicePosition]) -> list[int]:
    """Return the indices of slices in the order along the normal of the first one (PS3.3 section C.7.6.2.1.1).

    Unless all positions are known, SliceLocation decides, then InstanceNumber, then the given order.
    """
    locations = _locations(positions)
    return sorted(range(len(positions)), key=lambda index: (locations[index], positions[index].number or 0.0, index))


def selected(positions: Sequence[SlicePosition], *, every: int, skip_ends: int) -> list[int]:
    """Return the indices of slices in order, of each ``every``-th place without the first and last ``skip_ends``.

    Slices at one place, such as those of several echoes or time points, are selected together.
    """
    order, locations = in_order(positions), _locations(positions)
    if len(set(locations)) == 1:  # nothing tells their places: each has its own
        places = [[index] for index in order]
    else:
        places = [list(group) for _, group in itertools.groupby(order, key=locations.__getitem__)]
    return list(itertools.chain(*places[skip_ends : max(len(places) - skip_ends, 0) : every]))


def _locations(positions: Sequence[SlicePosition]) -> list[float]:
    corners = [slice_.position for slice_ in positions if slice_.orientation and slice_.position]
    if positions and len(corners) == len(positions):
        rows, columns = np.array(positions[0].orientation).reshape(2, 3)
        # Rounded to a micrometer: echoes and phases at one position are sorted by their numbers, not by the last digit.
        return np.round([np.dot(np.cross(rows, columns), corner) for corner in corners], 3).tolist()
    for name in ("location", "number"):
        values = [getattr(slice_, name) for slice_ in positions]
        if None not in values:
            return values
    return [0.0] * len(positions)
