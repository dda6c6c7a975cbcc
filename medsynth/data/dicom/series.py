"""The order of a series' slices, and which of them are taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from medsynth.data.dicom.headers import Header, Place


def by_series(headers: Sequence[Header], *, every: int, skip_ends: int) -> list[Header]:
    """The files by patient, study and series, and in it slice by slice; those that are not taken are missing.

    Files of several frames follow their series' slices. Their frames are sorted and taken when they are read.
    """
    series: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        # A file that does not say its series belongs to those in its folder.
        own = header.series or f"folder {header.name.rpartition('/')[0]}"
        series[header.patient, header.study, own].append(header)
    result = []
    for _, files in sorted(series.items()):
        slices = [header for header in files if header.frames == 1]
        order = in_order([header.place for header in slices])
        if len(slices) > 1:
            order = taken(order, every=every, skip_ends=skip_ends)
        result += [slices[index] for index in order] + [header for header in files if header.frames > 1]
    return result


def in_order(places: Sequence[Place]) -> list[int]:
    """Indices of the slices along their normal, which is that of the first one (PS3.3 section C.7.6.2.1.1).

    Where a position is not known for all, SliceLocation decides, then InstanceNumber, then the order as it is.
    """
    locations = _locations(places)
    return sorted(range(len(places)), key=lambda index: (locations[index], places[index].number or 0.0, index))


def taken(order: list[int], *, every: int, skip_ends: int) -> list[int]:
    """Each ``every``-th slice, without the first and last ``skip_ends``."""
    return order[skip_ends : max(len(order) - skip_ends, 0) : every]


def _locations(places: Sequence[Place]) -> list[float]:
    if places and all(place.orientation and place.position for place in places):
        rows, columns = np.array(places[0].orientation).reshape(2, 3)
        # To a micrometer: where echoes or phases share a place, their numbers decide and not the last digit.
        return np.round([np.dot(np.cross(rows, columns), place.position) for place in places], 3).tolist()
    for name in ("location", "number"):
        values = [getattr(place, name) for place in places]
        if None not in values:
            return values
    return [0.0] * len(places)
