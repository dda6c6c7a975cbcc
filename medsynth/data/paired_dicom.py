"""Reader of pairs of DICOM slices for translation: two series of one patient, matched by their position in space."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from medsynth.data.dicom.headers import Header, SlicePosition
from medsynth.data.dicom.reader import Dicom
from medsynth.data.dicom.series import grouped
from medsynth.data.errors import DataError, Reason, ReasonKind, Unreadable, check_choice
from medsynth.data.layout import AUTO, find_layout
from medsynth.data.paired_folder import NO_SOURCE, NO_TARGET
from medsynth.data.reading import RawImage, Record, Roles, Scan, reader_options
from medsynth.data.tree import Tree
from medsynth.errors import InputError

CHOICES = {"folder": lambda header: header.name.rpartition("/")[0], "description": lambda h: h.series_description}
CHOICES |= {"series": lambda header: header.series, "modality": lambda header: header.modality}
NEITHER = Reason(ReasonKind.NOT_SELECTED, "of neither data.reader.source nor data.reader.target")
SEVERAL_FRAMES = Reason(ReasonKind.UNSUPPORTED, "several frames in one file, of which no pairs are made")
_PARALLEL = 0.999  # cosine of the angle between normals of slices that are parallel
_SAME_PLACE = 0.01  # mm along the normal by which slices at one place may differ
_SAME_GRID = 0.01  # pixels by which the grids of a pair may differ
_LEAST_COVER = 0.5  # of the source that the target has to cover


class _Plane(NamedTuple):
    """A slice in space: the unit vectors of rows and columns, the normal, and the corner, in mm."""

    across: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    corner: np.ndarray


@dataclasses.dataclass
class PairedDicom:
    """A reader of pairs of slices of two DICOM series; conf/data/paired_dicom.yaml describes its options.

    Slices are a pair if they are of one patient and one frame of reference, parallel, and at the same place along
    their normal (ImagePositionPatient, ImageOrientationPatient: PS3.3 section C.7.6.2). A target whose pixels are
    elsewhere in the plane is resampled linearly to those of its source.

    Raises:
        InputError: an option has an impossible value, or ``root`` cannot be opened.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    by: str = "folder"
    source: str = "source"
    target: str = "target"
    tolerance: float = 0.5
    frame_of_reference: str = "equal"
    unmatched: str = "raise"
    split_level: int | str | None = AUTO

    def __post_init__(self) -> None:
        check_choice("data.reader.by", self.by, CHOICES)
        check_choice("data.reader.frame_of_reference", self.frame_of_reference, ("equal", "any"))
        check_choice("data.reader.unmatched", self.unmatched, ("raise", "skip"))
        if not self.tolerance > 0:
            raise InputError(f"data.reader.tolerance={self.tolerance} is not possible: choose more than 0 mm.")
        self._patterns = {name: _compiled(name, getattr(self, name)) for name in ("source", "target")}
        self._dicom = Dicom(self.root)
        self.tree: Tree = self._dicom.tree

    def scan(self) -> Scan:
        """Read the headers and match the slices; see ``reading.Reader``.

        Raises:
            DataError: one side is missing, slices have no partner, or several, or frames of reference differ.
        """
        headers, left_out, damaged = self._dicom.headers()
        sources, targets = self._sides(headers, left_out)
        pairs, alone = self._matched(sources, targets)
        if not pairs or (any(alone) and self.unmatched == "raise"):
            raise DataError(
                f"data.root={self.tree.root} holds {alone[0]} source and {alone[1]} target slices without a partner at "
                f"the same place (within {self.tolerance:g} mm), and {len(pairs)} pairs: complete the series, choose "
                "them by data.reader.source= and target=, or leave those slices out with data.reader.unmatched=skip."
            )
        left_out[NO_TARGET], left_out[NO_SOURCE] = alone
        names = [source.name for source, _, _ in pairs]
        layout = find_layout(names, root=self.tree.root, split_level=self.split_level)
        used = {header.name for source, target, _ in pairs for header in (source, target)}
        return Scan(
            [
                Record(
                    source.name,
                    partner=target.name,
                    patient=source.patient,
                    split=layout.split(source.name),
                    series=f"{source.patient} {source.study} {source.series}",
                    place=place,
                )
                for source, target, place in pairs
            ],
            unit=pairs[0][1].unit or "stored value",
            source_unit=pairs[0][0].unit or "stored value",
            modality=pairs[0][1].modality,
            source_modality=pairs[0][0].modality,
            left_out=+left_out,
            damaged=damaged,
            paired=True,
            accounted=frozenset(self.tree.names) - used,
            roles=Roles(patients="PatientID", split=layout.roles.split),
        )

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Decode one pair, the target on the grid of its source; see ``reading.Reader``.

        Raises:
            Unreadable: one of the two is damaged, in color, or the target covers too little of the source.
        """
        (place, source), (other, target) = (self._dicom.slice(name) for name in (record.name, record.partner))
        if len(source.values) > 1 or len(target.values) > 1:
            raise Unreadable("it is in color")
        values = _on_grid(target, _plane(other), source, _plane(place))
        pair = dataclasses.replace(target, values=values, source=source, spacing=source.spacing, aspect=source.aspect)
        return [pair], Counter()

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _sides(self, headers: Sequence[Header], left_out: Counter[Reason]) -> tuple[list[Header], list[Header]]:
        """Return the slices of the sources and of the targets; the others are counted."""
        sides: dict[str, list[Header]] = {"source": [], "target": []}
        for header in headers:
            names = [name for name, pattern in self._patterns.items() if pattern.search(CHOICES[self.by](header))]
            if len(names) != 1:
                left_out[NEITHER] += 1
            elif header.frames > 1:
                left_out[SEVERAL_FRAMES] += 1
            else:
                sides[names[0]].append(header)
        for name, own in sides.items():
            self._check_side(name, own, headers)
            self._dicom.check_uniform(own)
        return sides["source"], sides["target"]

    def _check_side(self, name: str, own: Sequence[Header], headers: Sequence[Header]) -> None:
        if own:
            return
        known = Counter(CHOICES[self.by](header) for header in headers)
        shown = f"; there are {len(known)} of them"
        raise DataError(
            f"data.reader.{name}={getattr(self, name)} is found in no {self.by} of the {len(headers)} DICOM images in "
            f"data.root={self.tree.root}{shown}: give a regular expression for it, or choose another property by "
            f"data.reader.by={'|'.join(CHOICES)}."
        )

    def _matched(
        self, sources: Sequence[Header], targets: Sequence[Header]
    ) -> tuple[list[tuple[Header, Header, int]], tuple[int, int]]:
        """Return the pairs with the place of each in its source's series, and counts of slices without a partner."""
        candidates: dict[str, list[Header]] = defaultdict(list)
        for header in targets:
            candidates[header.patient].append(header)
        pairs, taken = [], set[str]()
        for files in grouped(sources, every=1, skip_ends=0):
            self._check_frames(files[0], candidates[files[0].patient])
            for place, source in enumerate(files):
                found = self._partners(source, candidates[source.patient])
                if len(found) > 1:
                    raise DataError(
                        f"{len(found)} target slices lie at the place of one source slice in data.root="
                        f"{self.tree.root}: choose one series of each patient by data.reader.by=description or "
                        "series, and data.reader.target=."
                    )
                if found:
                    pairs.append((source, found[0], place))
                    taken.add(found[0].name)
        return pairs, (len(sources) - len(pairs), len(targets) - len(taken))

    def _check_frames(self, source: Header, targets: Sequence[Header]) -> None:
        """Refuse a patient's series whose positions are relative to different frames."""
        frames = {header.frame_of_reference for header in targets}
        if self.frame_of_reference == "any" or not frames or source.frame_of_reference in frames:
            return
        raise DataError(
            f"The source and target series of a patient in data.root={self.tree.root} have different frames of "
            "reference (FrameOfReferenceUID), so that their positions cannot be compared: register them, or take the "
            "positions as they are with data.reader.frame_of_reference=any."
        )

    def _partners(self, source: Header, targets: Sequence[Header]) -> list[Header]:
        """Return the target slices at a source slice's place, the nearest ones where there are several places."""
        own, found = _plane(source.position), list[tuple[float, Header]]()
        for target in targets:
            other = _plane(target.position)
            equal = self.frame_of_reference == "any" or target.frame_of_reference == source.frame_of_reference
            if own is None or other is None or not equal or abs(own.normal @ other.normal) < _PARALLEL:
                continue
            distance = abs(float(own.normal @ (other.corner - own.corner)))
            if distance <= self.tolerance:
                found.append((distance, target))
        nearest = min((distance for distance, _ in found), default=0.0)
        return [target for distance, target in found if distance <= nearest + _SAME_PLACE]


def _plane(position: SlicePosition) -> _Plane | None:
    """Return a slice in space; None: its position is not known."""
    if position.position is None or position.orientation is None:
        return None
    across, down = np.array(position.orientation, float).reshape(2, 3)
    return _Plane(across, down, np.cross(across, down), np.array(position.position, float))


def _on_grid(target: RawImage, plane: _Plane | None, source: RawImage, grid: _Plane | None) -> np.ndarray:
    """Return the values of a target at the pixels of its source, (1, H, W); beyond its border its lowest value."""
    if plane is None or grid is None or target.spacing is None or source.spacing is None:
        if target.values.shape != source.values.shape:
            raise Unreadable("the two slices of the pair have different sizes, and their pixel spacing is not known")
        return target.values
    height, width = source.values.shape[1:]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    down, across = grid.down * source.spacing[0], grid.across * source.spacing[1]
    offset = grid.corner - plane.corner
    places = np.stack(
        [
            (offset @ axis + rows * (down @ axis) + columns * (across @ axis)) / step
            for axis, step in ((plane.down, target.spacing[0]), (plane.across, target.spacing[1]))
        ]
    )
    same = target.values.shape == source.values.shape
    if same and np.abs(places - np.stack([rows, columns])).max() <= _SAME_GRID:
        return target.values
    limits = zip(places, target.values.shape[1:], strict=True)
    inside = [(place >= -0.5) & (place <= extent - 0.5) for place, extent in limits]
    if (inside[0] & inside[1]).mean() < _LEAST_COVER:
        raise Unreadable("its target slice covers less than half of it")
    lowest = float(target.values.min())
    coarser = max(source.spacing[0] / target.spacing[0], source.spacing[1] / target.spacing[1])
    image = target.values[0].astype(np.float64)
    if coarser > 1:  # finer structures would become noise on a coarser grid
        image = ndimage.gaussian_filter(image, np.sqrt(coarser**2 - 1) / 2.355, mode="nearest")
    made = ndimage.map_coordinates(image, places, order=1, mode="constant", cval=lowest)
    return made[None].astype(np.float32)


def _compiled(option: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise InputError(
            f"data.reader.{option}={pattern} is not a regular expression ({error}): 'B70f' finds these letters."
        ) from None
