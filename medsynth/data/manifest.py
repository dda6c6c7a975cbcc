"""The record of a prepared data set as a whole, which is kept as ``manifest.json`` in its cache."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from medsynth.data.errors import ReasonKind


class IntensityRecord(TypedDict):
    """The fields of ``contracts.Intensity``."""

    low: float
    high: float
    unit: str


class Histogram(TypedDict):
    """Counts in equal bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: list[int]


class SourceRecord(TypedDict):
    """The sources of pairs, like the entries of ``Manifest`` about the targets.

    ``bounds`` are the measured values that became -1 and 1, before an equalization; data sets that were prepared by
    earlier versions lack them.
    """

    intensity: IntensityRecord
    bounds: NotRequired[list[float]]
    unit: str
    modality: str
    stored_types: dict[str, int]
    before: Histogram
    after: Histogram


class LeftOut(TypedDict):
    """The number of files, or parts of files, that were left out for one reason."""

    kind: ReasonKind
    text: str
    count: int


class Losses(TypedDict):
    """Folders and classes of which no image is used: see ``Manifest``."""

    lost_folders: list[int]
    folder_level: int
    folders_are_classes: bool
    empty_classes: list[str]


class Manifest(Losses):
    """All that is known of a prepared data set beside its images and their columns.

    ``spacing`` is the median, in millimeters from row to row and from column to column. ``remarks``, ``stored_types``
    and ``sizes`` ("64x48", width first) count images. ``lost_folders`` are positions in ``folders.folders_at`` of those
    of level ``folder_level`` of which no image is used, ``empty_classes`` are classes of which no image is left.
    ``source`` is None without pairs, ``masked`` pairs have a foreground as their last channel.
    ``roles`` are the fields of ``reading.Roles``. ``before`` are the measured values, ``after`` those in [-1, 1].
    """

    class_names: list[str]
    unit: str
    modality: str
    paired: bool
    masked: bool
    source: SourceRecord | None
    intensity: IntensityRecord
    spacing: list[float] | None
    left_out: list[LeftOut]
    roles: dict[str, str]
    remarks: dict[str, int]
    stored_types: dict[str, int]
    sizes: dict[str, int]
    before: Histogram
    after: Histogram
