"""Label volumes beside NIfTI images: whether they lie on them, and the class of each slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medsynth.data.errors import Unreadable
from medsynth.data.nifti_volume import Volume

BACKGROUND = "background"


def class_names(maps: Sequence[np.ndarray], label_names: Mapping[int, str] | None) -> list[str]:
    """Return the class of each slice: its most frequent label other than 0, the lowest one of equally frequent labels.

    Args:
        maps: the slices of a label volume (1, H, W).
        label_names: of all labels; None: their numbers are their names.

    Raises:
        Unreadable: a label is not a whole number, or has no name.
    """
    present = [_labels_in(values) for values in maps]
    known = {0} | (set(label_names) if label_names else set[int]().union(*present))
    if not known.issuperset(label for counts in present for label in counts):
        raise Unreadable("its label volume holds a label that data.reader.label_names does not name")
    names = {0: BACKGROUND} | {label: str(label) for label in known if label} | dict(label_names or {})
    return [names[max(sorted(counts), key=counts.__getitem__, default=0)] for counts in present]


def _labels_in(values: np.ndarray) -> dict[int, int]:
    """Return how many voxels of a slice have each label other than 0."""
    if (values % 1).any():
        raise Unreadable("its label volume holds values that are not integers")
    labels, counts = np.unique(values[values != 0], return_counts=True)
    return dict(zip(map(int, labels), counts.tolist(), strict=True))


def check_aligned(image: Volume, labels: Volume) -> None:
    """Raise Unreadable unless both volumes fill the same space, within half a voxel at each corner."""
    if labels.stored.dtype.names:
        raise Unreadable("its label volume holds values that are not integers")
    if image.stored.shape != labels.stored.shape:
        raise Unreadable("its label volume has another shape")
    if not image.lies_on(labels):
        raise Unreadable("its label volume has another position in space")
