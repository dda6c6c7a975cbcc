"""Reader of DICOM files: what there is, what is selected and in which order, and the images of one file."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset

from medsynth.data.dicom.elements import PIXELS, damage, parse, quiet
from medsynth.data.dicom.headers import Header, SlicePosition, read_header, slice_position
from medsynth.data.dicom.patients import find_patients
from medsynth.data.dicom.pixels import plugins
from medsynth.data.dicom.raw_image import frame_order, raw_images
from medsynth.data.dicom.selection import INTENTS, SCOUT, SLICES, Selection
from medsynth.data.dicom.series import by_series, grouped, places
from medsynth.data.errors import DataError, Reason, ReasonKind, Unreadable
from medsynth.data.layout import AUTO, Layout, find_layout
from medsynth.data.reading import RawImage, Record, Roles, Scan, reader_options
from medsynth.data.table import natural
from medsynth.data.tree import Tree, open_tree
from medsynth.errors import InputError
from medsynth.terminal import track

LABELS = ("folder", "modality", "body_part", "series_description", "laterality")


@dataclasses.dataclass
class Dicom:
    """A reader of DICOM files, recognized by their content; conf/data/dicom.yaml describes its options.

    A record is a file, its raw images are its frames. Records are sorted by patient, study and series, slices along
    their normal. Values are those after the modality transformation: Hounsfield units for CT, the unit of a PET image,
    stored values if none is specified; ``values.measured`` describes MONOCHROME1 and padding. Patients are identified
    by PatientID and its issuer, or by the study without a PatientID. Labels appear in messages and records.

    Raises:
        InputError: an option has an impossible value, or ``root`` cannot be opened.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    modality: str | Sequence[str] | None = None
    series: str | Sequence[str] | None = None
    description: str | None = None
    scouts: bool = False
    captures: bool = False
    intent: str | None = None
    image_type: str | None = None
    label: str | None = None
    every: int = 1
    skip_ends: int = 0
    class_level: int | str | None = AUTO
    patient_level: int | str | None = AUTO
    split_level: int | str | None = AUTO

    def __post_init__(self) -> None:
        if self.label is not None and self.label not in LABELS:
            raise InputError(f"data.reader.label={self.label} is not possible: choose null or {', '.join(LABELS)}.")
        if self.intent not in (None, *INTENTS):
            raise InputError(f"data.reader.intent={self.intent} is not possible: choose null, {' or '.join(INTENTS)}.")
        if not isinstance(self.every, int) or self.every < 1:
            raise InputError(
                f"data.reader.every={self.every} is not possible: 1 selects all slices, 2 every second slice."
            )
        if not isinstance(self.skip_ends, int) or self.skip_ends < 0:
            raise InputError(f"data.reader.skip_ends={self.skip_ends} is not possible: choose 0 slices or more.")
        self._selection = Selection(
            modalities=tuple(code.upper() for code in _strings(self.modality)),
            series=_strings(self.series),
            description=_compiled(self.description),
            scouts=self.scouts,
            captures=self.captures,
            intent=self.intent,
            image_type=self.image_type,
        )
        self.tree: Tree = open_tree(self.root, example="data=dicom data.root=/path/to/dicom")

    def scan(self) -> Scan:
        """Read the headers of all files; see ``reading.Reader``.

        Raises:
            DataError: nothing fits the options, or images of several modalities or units are mixed.
        """
        selected, left_out, damaged = self._readable()
        ordered = by_series(selected, every=self.every, skip_ends=self.skip_ends)
        left_out[SLICES] += len(selected) - len(ordered)
        layout = find_layout(
            [header.name for header in ordered],
            root=self.tree.root,
            split_level=self.split_level,
            class_level=self.class_level if self.label == "folder" else None,
            patient_level=self.patient_level,
            folders_are_classes=True,
        )
        labeled = self._labeled(ordered, layout, left_out)
        files = [header for header, _ in labeled]
        patients, origin = find_patients(files, layout, self.patient_level)
        records = [
            Record(
                file.name, class_name=name, patient=patient, split=layout.split(file.name), series=series, place=place
            )
            for (file, name), patient, (series, place) in zip(labeled, patients, places(files), strict=True)
        ]
        left_out = +left_out
        if not records:
            reasons = _listed(left_out + damaged)
            raise DataError(
                f"data.root={self.tree.root} holds no DICOM image to read ({reasons}): change the options that these "
                f"reasons name, or add files."
            )
        return Scan(
            records,
            class_names=tuple(sorted({record.class_name for record in records} - {""}, key=natural)),
            unit=selected[0].unit or "stored value",
            modality=selected[0].modality if len({header.modality for header in selected}) == 1 else "",
            left_out=left_out,
            damaged=damaged,
            folder_level=layout.class_level,
            roles=Roles(
                layout.roles.classes or f"the {(self.label or '').replace('_', ' ')} (data.reader.label)",
                origin,
                layout.roles.split,
                layout.doubt if layout.class_level else "",
            ),
        )

    def files_of_series(self) -> list[list[Header]]:
        """Return the files of each series, in the order of its slices.

        Raises:
            DataError: nothing fits the options, files of several modalities or units are mixed, or one is damaged.
        """
        selected, _, damaged = self._readable()
        damaged += Counter(reason for _, reason in self.tree.lost if reason.kind is ReasonKind.DAMAGED)
        if damaged:
            raise DataError(
                f"{sum(damaged.values())} files in data.root={self.tree.root} are damaged ({_listed(damaged)}): a "
                "series is read as a whole; repair or remove them."
            )
        return grouped(selected, every=self.every, skip_ends=self.skip_ends)

    def slices(self, header: Header) -> tuple[Dataset, list[int], list[RawImage]]:
        """Return the data set of a file without its pixels, and the numbers and images of its frames in order.

        Raises:
            Unreadable: it is damaged.
        """
        with quiet(), damage("it is damaged"):
            dataset, _ = parse(self.tree.read(header.name))
            images, _ = raw_images(dataset, self._selection, every=self.every, skip_ends=self.skip_ends)
            options = {"every": self.every, "skip_ends": self.skip_ends}
            order, _ = frame_order(dataset, header.frames, self._selection, **options)
            for keyword in PIXELS.values():
                if keyword in dataset:
                    delattr(dataset, keyword)
        return dataset, order, images

    def slice(self, name: str) -> tuple[SlicePosition, RawImage]:
        """Return the position and the image of a file with one frame.

        Raises:
            Unreadable: it is damaged.
        """
        with quiet(), damage("it is damaged"):
            dataset, _ = parse(self.tree.read(name))
            images, _ = raw_images(dataset, self._selection, every=1, skip_ends=0)
            return slice_position(dataset), images[0]

    def headers(self) -> tuple[list[Header], Counter[Reason], Counter[Reason]]:
        """Return the headers of all images that a decoder reads but scouts, and counts of the others and damaged ones.

        Raises:
            DataError: there is no image.
        """
        with quiet():
            headers, left_out, damaged = self._headers()
            kept = [header for header in headers if not self._selection.other_scout(header)]
            left_out[SCOUT] += len(headers) - len(kept)
            return _decodable(kept, left_out, damaged), left_out, damaged

    def _readable(self) -> tuple[list[Header], Counter[Reason], Counter[Reason]]:
        """Return the files that the options select and a decoder reads, and counts of those left out and damaged."""
        with quiet():
            headers, left_out, damaged = self._headers()
            selected = self._selected(headers, left_out)
            self.check_uniform(selected)
            return _decodable(selected, left_out, damaged), left_out, damaged

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Decode the frames of a file; see ``reading.Reader``."""
        with quiet(), damage("it is damaged"):
            dataset, _ = parse(self.tree.read(record.name))
            images, left_out = raw_images(dataset, self._selection, every=self.every, skip_ends=self.skip_ends)
        if len(images) > 1:
            images = [dataclasses.replace(image, place=place) for place, image in enumerate(images)]
        return images, +left_out

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _headers(self) -> tuple[list[Header], Counter[Reason], Counter[Reason]]:
        """Return the headers of all images, and counts of files that are left out and of damaged ones."""
        headers: list[Header] = []
        left_out, damaged = Counter[Reason](), Counter[Reason]()
        for name in track(self.tree.names, "reading DICOM headers", total=len(self.tree.names), unit="files"):
            try:
                headers.append(read_header(self.tree, name))
            except Unreadable as error:
                (damaged if error.reason.kind is ReasonKind.DAMAGED else left_out)[error.reason] += 1
        if not headers:
            raise DataError(
                f"data.root={self.tree.root} holds no DICOM image ({_listed(left_out + damaged)}): give a folder with "
                f"DICOM files, or read other formats by data=image_folder or data=nifti."
            )
        return headers, left_out, damaged

    def _selected(self, headers: list[Header], left_out: Counter[Reason]) -> list[Header]:
        """Return the images that the options select."""
        selected, not_of_the_set = self._selection.files(headers)
        left_out += not_of_the_set
        if not selected:
            raise DataError(
                f"data.root={self.tree.root} holds no DICOM image that fits the options ({_listed(+left_out)}); its "
                f"modalities are {_listed(Counter(header.modality or 'unknown' for header in headers))}: change these "
                f"options."
            )
        return selected

    def check_uniform(self, headers: list[Header]) -> None:
        """Raise DataError unless there is one unit, and one modality if none was chosen."""
        modalities = Counter(header.modality or "unknown" for header in headers)
        if len(modalities) > 1 and not self._selection.modalities:
            first = modalities.most_common(1)[0][0]
            raise DataError(
                f"data.root={self.tree.root} holds images of several modalities ({_listed(modalities)}): "
                f"choose, for example by data.reader.modality={first}."
            )
        units = Counter(header.unit or "no unit" for header in headers)
        if len(units) > 1:
            raise DataError(
                f"data.root={self.tree.root} holds images in several units ({_listed(units)}): choose by "
                f"data.reader.modality, data.reader.series or data.reader.description, and leave out captures with "
                f"data.reader.captures=false."
            )

    def _labeled(self, headers: list[Header], layout: Layout, left_out: Counter[Reason]) -> list[tuple[Header, str]]:
        """Return the images with their class names; with labels, images without one are left out."""
        if self.label is None:
            return [(header, "") for header in headers]
        labeled = [(header, _class_name(header, self.label, layout)) for header in headers]
        text = f"without a {self.label.replace('_', ' ')} (data.reader.label)"
        left_out[Reason(ReasonKind.UNMATCHED, text)] += sum(not name for _, name in labeled)
        return [(header, name) for header, name in labeled if name]


def _decodable(headers: list[Header], left_out: Counter[Reason], damaged: Counter[Reason]) -> list[Header]:
    """Return the images that a decoder can read; the others are counted."""
    result: list[Header] = []
    for header in headers:
        try:
            plugins(header.syntax, samples=header.samples, bits=header.bits_stored)
            result.append(header)
        except Unreadable as error:
            (damaged if error.reason.kind is ReasonKind.DAMAGED else left_out)[error.reason] += 1
    return result


def _class_name(header: Header, label: str, layout: Layout) -> str:
    if label == "folder":
        return layout.class_name(header.name)
    return getattr(header, label)


def _strings(value: str | Iterable[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value or ()))


def _compiled(description: str | None) -> re.Pattern[str] | None:
    try:
        return None if description is None else re.compile(description, re.IGNORECASE)
    except re.error as error:
        raise InputError(
            f"data.reader.description={description} is not a regular expression ({error}): 'chest|lung' finds either "
            f"word."
        ) from None


def _listed(counts: Counter[Any]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common())
