"""What a DICOM file says of itself before its pixels: whether it is an image, of whom, and where its slice lies."""

from __future__ import annotations

import dataclasses
import re

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medsynth.data.dicom.elements import (
    PIXELS,
    damage,
    frame_group,
    integer,
    looks_like_dicom,
    number,
    numbers,
    parse,
    syntax,
    text,
)
from medsynth.data.dicom.values import unit
from medsynth.data.reading import Unreadable
from medsynth.data.tree import Tree

_HEAD = 2**14  # bytes that hold most headers; where they do not, the whole file is read
NOTHING_WRONG = ("no image", "a film")
_NO_PICTURES = ("Segmentation Storage", "RT Dose Storage")  # that hold pixels all the same
_FILMS = ("MPEG", "HEVC", "SMPTE")
_SCOUTS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SCREEN SAVE"}
_KEYWORDS = (
    "SOPClassUID ImageType Modality SeriesDescription PatientID IssuerOfPatientID BodyPartExamined StudyInstanceUID "
    "SeriesInstanceUID InstanceNumber ImagePositionPatient ImageOrientationPatient SliceLocation Laterality "
    "ImageLaterality SamplesPerPixel NumberOfFrames Rows BitsStored RescaleSlope RescaleType ModalityLUTSequence Units "
    "SharedFunctionalGroupsSequence"
)
_TAGS = frozenset({tag_for_keyword(keyword) for keyword in _KEYWORDS.split()} | set(PIXELS))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a slice lies: what its series is sorted by. None: not known.

    Attributes:
        orientation: direction cosines of rows (x, y, z) and columns (x, y, z), ImageOrientationPatient.
        position: of the center of the first pixel, mm, ImagePositionPatient.
        location: SliceLocation, mm.
        number: InstanceNumber.
    """

    orientation: tuple[float, ...] | None = None
    position: tuple[float, ...] | None = None
    location: float | None = None
    number: float | None = None


@dataclasses.dataclass(frozen=True)
class Header:
    """Of one image file. Texts are "" where they are missing; ``unit`` is "" where values are of no known unit."""

    name: str
    modality: str
    patient: str
    study: str
    series: str
    series_description: str
    body_part: str
    laterality: str
    scout: bool
    unit: str
    frames: int
    samples: int
    bits_stored: int
    syntax: UID
    place: Place


def read_header(tree: Tree, name: str) -> Header:
    """Look at the first bytes of a file.

    Raises:
        Unreadable: it is left out; the message is the reason, which begins with NOTHING_WRONG unless it is damaged.
    """
    head = tree.head(name, _HEAD)
    if not head:
        raise Unreadable("no image (empty file)")
    if not looks_like_dicom(head):
        raise Unreadable("no image (no DICOM file)")
    try:
        dataset, has_pixels = parse(head, only=_TAGS, stop_at_pixels=True)
    except Unreadable:
        if len(head) < _HEAD:
            raise
        dataset, has_pixels = Dataset(), False  # it goes on, such as a deflated one
    if not has_pixels and len(head) == _HEAD:
        dataset, has_pixels = parse(tree.read(name), only=_TAGS, stop_at_pixels=True)
    with damage("its DICOM header is damaged"):
        _check_image(dataset, has_pixels, preamble=head[128:132] == b"DICM")
        return _header(name, dataset)


def _check_image(dataset: Dataset, has_pixels: bool, *, preamble: bool) -> None:
    """Raises Unreadable: this is no image, or one without pixels."""
    uid = UID(text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID"))
    kind = uid.name if uid.is_valid and uid.name != uid else ""  # in the words of PS3.6 annex A
    if "Directory" in kind:
        raise Unreadable("no image (DICOMDIR)")
    if kind in _NO_PICTURES or (kind and not has_pixels and not kind.endswith("Image Storage")):
        raise Unreadable(f"no image ({kind.removesuffix(' Storage')})")
    if not has_pixels:
        if not kind and not text(dataset, "Rows"):
            raise Unreadable("no image (no pixel data)" if preamble else "no image (no DICOM file)")
        raise Unreadable("damaged: an image without pixel data")
    if any(film in syntax(dataset).name for film in _FILMS):
        raise Unreadable("a film, not pictures (MPEG, H.264, HEVC)")


def _header(name: str, dataset: Dataset) -> Header:
    samples = integer(dataset, "SamplesPerPixel", 1, 4, default=1)
    image_type = set(text(dataset, "ImageType").upper().split("\\"))
    return Header(
        name=name,
        modality=_code(text(dataset, "Modality")),
        patient=_patient(dataset),
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        series_description=text(dataset, "SeriesDescription"),
        body_part=text(dataset, "BodyPartExamined").upper(),
        laterality=(text(dataset, "ImageLaterality") or text(dataset, "Laterality")).upper(),
        scout=bool(image_type & _SCOUTS),
        unit=unit(dataset, frame_group(dataset, 0, "PixelValueTransformationSequence")),
        frames=integer(dataset, "NumberOfFrames", 1, 2**31, default=1),
        samples=samples,
        bits_stored=integer(dataset, "BitsStored", 1, 64, default=32),
        syntax=syntax(dataset),
        place=place(dataset),
    )


def place(dataset: Dataset) -> Place:
    """Where the slice of a file with one frame lies."""
    return Place(
        numbers(dataset, "ImageOrientationPatient", 6),
        numbers(dataset, "ImagePositionPatient", 3),
        number(dataset, "SliceLocation"),
        number(dataset, "InstanceNumber"),
    )


def frame_place(dataset: Dataset, frame: int) -> Place:
    """Where a frame of an enhanced multi-frame image lies."""
    orientation = frame_group(dataset, frame, "PlaneOrientationSequence")
    position = frame_group(dataset, frame, "PlanePositionSequence")
    return Place(
        None if orientation is None else numbers(orientation, "ImageOrientationPatient", 6),
        None if position is None else numbers(position, "ImagePositionPatient", 3),
    )


def _patient(dataset: Dataset) -> str:
    """Who must not be on both sides of a split; the study or series stands for a patient without an ID."""
    patient, issuer = text(dataset, "PatientID"), text(dataset, "IssuerOfPatientID")
    if patient:
        return f"{patient} of {issuer}" if issuer else patient
    return text(dataset, "StudyInstanceUID") or text(dataset, "SeriesInstanceUID")


def _code(modality: str) -> str:
    """Messages name it, so it must be a code (PS3.3 section C.7.3.1.1.1) and not some text."""
    return modality if re.fullmatch(r"[A-Z][A-Z0-9_]{1,15}", modality) else ""
