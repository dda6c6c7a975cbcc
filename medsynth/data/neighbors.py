"""The slices around each slice of a series, which are channels beside a source."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medsynth.data.kept_images import KeptImages
from medsynth.errors import InputError


def neighbors_of_splits(images: KeptImages, reach: int, *, root: str | None) -> Mapping[str, np.ndarray | None]:
    """Return for each split the rows of the slices around its own, as ``neighboring_rows`` does.

    Args:
        images: slices, and their splits.
        reach: slices on either side; 0: sources are single slices, and have None.
        root: of the files, for messages.

    Raises:
        InputError: slices of one series are not known in order, or are in several splits.
    """
    if not reach:
        return dict.fromkeys(images.rows)
    series, places = images.store.columns["series"], images.store.columns["place"]
    if not all(series):
        raise InputError(
            f"data.neighbors={reach} needs slices whose series and order are known, and those in "
            f"data.root={root} are single images: read series by data=paired_dicom or synthrad, or type "
            "data.neighbors=0."
        )
    splits = [{series[row] for row in own} for own in images.rows.values()]
    if not images.blocks and sum(map(len, splits)) > len(set().union(*splits)):
        raise InputError(
            f"data.neighbors={reach} would show slices of held-out images in training, since images of one series "
            "are in several splits: split by patient (data.split_by=patient) or by blocks of slices (blocks)."
        )
    return {name: neighboring_rows(own, series, places, reach) for name, own in images.rows.items()}


def neighboring_rows(rows: list[int], series: list[str], places: list[int], reach: int) -> np.ndarray:
    """Return for each of ``rows`` those of the slices around it, (n, 2 ``reach`` + 1), itself in the middle.

    A slice that is not there, beyond the end of its series or left out, is replaced by the next one towards the middle.
    """
    known = {(series[row], places[row]): row for row in rows}
    result = np.empty((len(rows), 2 * reach + 1), dtype=np.int64)
    for number, row in enumerate(rows):
        result[number, reach] = row
        for direction in (-1, 1):
            last = row
            for offset in range(1, reach + 1):
                last = known.get((series[row], places[row] + direction * offset), last)
                result[number, reach + direction * offset] = last
    return result
