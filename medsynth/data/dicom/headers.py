"""The header of a DICOM file: whether it is an image, its patient and series, and the position of its slice."""

from __future__ import annotations

import dataclasses
import re

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from medsynth.data.dicom.elements import (
    PIXELS,
    damage,
    frame_group,
    integer,
    looks_like_dicom,
    number,
    numbers,
    parse,
    private_text,
    syntax,
    text,
)
from medsynth.data.dicom.values import unit
from medsynth.data.errors import NOT_AN_IMAGE_NAME, ReasonKind, Unreadable
from medsynth.data.other_formats import DICOM_ENDINGS, reason_not_read
from medsynth.data.tree import Tree

_HEAD = 2**14  # bytes that hold most headers; for longer ones the whole file is read
# Names of PS3.6 annex A: storage classes with pixel data that are not images, and parts of videos' transfer syntaxes.
_NOT_IMAGES = ("RT Dose Storage",)  # beside all kinds of segmentations
_VIDEOS = ("MPEG", "HEVC", "SMPTE")
SCOUTS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM", "SCREEN SAVE"}
# Values of ImageType, FrameType and ComplexImageComponent -> what is shown of complex values, or computed from them.
_COMPONENTS = {
    **dict.fromkeys(("M", "MAGNITUDE"), "MAGNITUDE"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP", "PHASE_MAP", "VELOCITY", "VELOCITY MAP"), "PHASE"),
    **dict.fromkeys(("R", "REAL"), "REAL"),
    **dict.fromkeys(("I", "IMAGINARY"), "IMAGINARY"),
    **dict.fromkeys(("FIELD_MAP", "FIELD MAP", "B0 MAP", "B0_MAP"), "FIELD MAP"),
    **dict.fromkeys(("ADC", "ADC MAP"), "ADC"),
    "FA": "FA",
}
_KEYWORDS = (
    "SOPClassUID ImageType Modality SeriesDescription PatientID IssuerOfPatientID BodyPartExamined StudyInstanceUID "
    "SeriesInstanceUID InstanceNumber ImagePositionPatient ImageOrientationPatient SliceLocation Laterality "
    "ImageLaterality SamplesPerPixel NumberOfFrames Rows BitsStored RescaleSlope RescaleType ModalityLUTSequence Units "
    "SharedFunctionalGroupsSequence PhotometricInterpretation BurnedInAnnotation PresentationIntentType "
    "ComplexImageComponent SegmentationType FrameOfReferenceUID"
)
# Elements of manufacturers' blocks: group, creator, element. What they say is missing in the standard's elements.
_RAW_DATA_TYPE = (0x0043, "GEMS_PARM_01", 0x2F)  # of GE: 0 to 3
_IMAGE_TYPE_MR = (0x2005, "Philips Imaging DD 001", 0x11)
_IMAGES_IN_MOSAIC = (0x0019, "SIEMENS MR HEADER", 0x0A)
_RAW_DATA_TYPES = {"0": "MAGNITUDE", "1": "PHASE", "2": "REAL", "3": "IMAGINARY"}
_BLOCKS = (0x10, 0x11, 0x12)  # that are looked through for them
_TAGS = frozenset(
    {tag for keyword in _KEYWORDS.split() if (tag := tag_for_keyword(keyword))}
    | set(PIXELS)
    | {group << 16 | block for group, _, _ in (_RAW_DATA_TYPE, _IMAGE_TYPE_MR, _IMAGES_IN_MOSAIC) for block in _BLOCKS}
    | {
        group << 16 | block << 8 | element
        for group, _, element in (_RAW_DATA_TYPE, _IMAGE_TYPE_MR, _IMAGES_IN_MOSAIC)
        for block in _BLOCKS
    }
)


@dataclasses.dataclass(frozen=True)
class SlicePosition:
    """The position of a slice, by which its series is sorted. None: not known.

    Attributes:
        orientation: direction cosines of rows (x, y, z) and columns (x, y, z), ImageOrientationPatient.
        position: the center of the first pixel, mm, ImagePositionPatient.
        location: SliceLocation, mm.
        number: InstanceNumber.
    """

    orientation: tuple[float, ...] | None = None
    position: tuple[float, ...] | None = None
    location: float | None = None
    number: float | None = None


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of one image file. Missing texts are ""; ``unit`` is "" if the values have no known unit.

    Attributes:
        capture: a secondary capture, by its storage class.
        color: of several samples, or of a palette.
        burned_in: text is part of the pixels.
        mosaic: the slices of a volume are the tiles of one image.
        intent: "presentation", "processing" or "".
        image_type: the values of ImageType.
        component: of complex MR values, such as "MAGNITUDE" and "PHASE", or a map computed from them; "" if unknown.
        frame_of_reference: what positions are relative to.
    """

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
    position: SlicePosition
    capture: bool
    color: bool
    burned_in: bool
    mosaic: bool
    intent: str
    image_type: tuple[str, ...]
    component: str
    frame_of_reference: str


def read_header(tree: Tree, name: str) -> Header:
    """Read the header from the first bytes of a file.

    Raises:
        Unreadable: the file is damaged, or it is not an image, as the kind of the reason says.
    """
    head = tree.head(name, _HEAD)
    if not looks_like_dicom(head):
        if name.lower().endswith(DICOM_ENDINGS):
            raise Unreadable("it is named like a DICOM file and is none, or empty")
        if not head:
            raise _not_an_image("empty file")
        other = reason_not_read(name)
        raise _not_an_image("not a DICOM file") if other == NOT_AN_IMAGE_NAME else Unreadable(other.text, other.kind)
    try:
        dataset, has_pixels = parse(head, only=_TAGS, stop_at_pixels=True)
    except Unreadable:
        if len(head) < _HEAD:
            raise
        dataset, has_pixels = Dataset(), False  # the header is longer, or the file is deflated
    if not has_pixels and len(head) == _HEAD:
        dataset, has_pixels = parse(tree.read(name), only=_TAGS, stop_at_pixels=True)
    with damage("its DICOM header is damaged"):
        _check_image(dataset, has_pixels, preamble=head[128:132] == b"DICM")
        return _header(name, dataset)


def _check_image(dataset: Dataset, has_pixels: bool, *, preamble: bool) -> None:
    """Raise Unreadable if this is not an image, or an image without pixels."""
    storage_class = _storage_class(dataset)
    if storage_class == MediaStorageDirectoryStorage.name:
        raise _not_an_image("DICOMDIR")
    # The newest classes of segmentations are in no dictionary yet: their elements tell.
    segmentation = text(dataset, "SegmentationType") or text(dataset, "Modality") == "SEG"
    if "Segmentation" in storage_class:
        raise _not_an_image(storage_class.removesuffix(" Storage"))
    if segmentation:
        raise _not_an_image("Segmentation")
    if storage_class in _NOT_IMAGES or (
        storage_class and not has_pixels and not storage_class.endswith("Image Storage")
    ):
        raise _not_an_image(storage_class.removesuffix(" Storage"))
    if not has_pixels:
        if not storage_class and not text(dataset, "Rows"):
            raise _not_an_image("no pixel data" if preamble else "not a DICOM file")
        raise Unreadable("an image without pixel data")
    if any(video in syntax(dataset).name for video in _VIDEOS):
        raise Unreadable("a video (MPEG, H.264, HEVC): save its frames as images", ReasonKind.UNSUPPORTED)


def _storage_class(dataset: Dataset) -> str:
    """Return the name of the storage class in PS3.6 annex A; "" if it is missing or not known."""
    uid = UID(text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID"))
    return uid.name if uid.is_valid and uid.name != uid else ""


def _not_an_image(text: str) -> Unreadable:
    return Unreadable(f"not an image ({text})", ReasonKind.NOT_AN_IMAGE)


def _header(name: str, dataset: Dataset) -> Header:
    samples = integer(dataset, "SamplesPerPixel", 1, 4, default=1)
    image_type, storage_class = values_of(dataset, "ImageType"), _storage_class(dataset)
    modality = _code(text(dataset, "Modality"))
    intent = text(dataset, "PresentationIntentType").upper() or storage_class.upper()
    return Header(
        name=name,
        modality=modality,
        patient=_patient(dataset),
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        series_description=text(dataset, "SeriesDescription"),
        body_part=text(dataset, "BodyPartExamined").upper(),
        laterality=(text(dataset, "ImageLaterality") or text(dataset, "Laterality")).upper(),
        scout=bool(SCOUTS & set(image_type)),
        unit=unit(dataset, frame_group(dataset, 0, "PixelValueTransformationSequence")),
        frames=integer(dataset, "NumberOfFrames", 1, 2**31, default=1),
        samples=samples,
        bits_stored=integer(dataset, "BitsStored", 1, 64, default=32),
        syntax=syntax(dataset),
        position=slice_position(dataset),
        capture="Secondary Capture" in storage_class,
        color=samples > 1 or text(dataset, "PhotometricInterpretation") == "PALETTE COLOR",
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        mosaic="MOSAIC" in image_type or private_text(dataset, *_IMAGES_IN_MOSAIC) not in ("", "0", "1"),
        intent=next((word for word in ("presentation", "processing") if intent.endswith(f"FOR {word.upper()}")), ""),
        image_type=image_type,
        component=component(dataset, image_type) if modality == "MR" else "",
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
    )


def values_of(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element of codes, in upper case."""
    return tuple(value.strip() for value in text(dataset, keyword).upper().split("\\"))


def component(dataset: Dataset, image_type: tuple[str, ...]) -> str:
    """Return what an MR image shows of complex values, or computes from them; "" if it is not known or mixed.

    Args:
        dataset: the file, or the functional group of a frame that holds its type.
        image_type: the values of ImageType or FrameType.
    """
    # The first two values say original or derived, primary or secondary.
    of_philips = private_text(dataset, *_IMAGE_TYPE_MR).upper()
    for value in (text(dataset, "ComplexImageComponent").upper(), *image_type[2:], of_philips):
        if value in _COMPONENTS:
            return _COMPONENTS[value]
    return _RAW_DATA_TYPES.get(private_text(dataset, *_RAW_DATA_TYPE), "")


def slice_position(dataset: Dataset) -> SlicePosition:
    """Return the position of the slice in a file with one frame."""
    return SlicePosition(
        numbers(dataset, "ImageOrientationPatient", 6),
        numbers(dataset, "ImagePositionPatient", 3),
        number(dataset, "SliceLocation"),
        number(dataset, "InstanceNumber"),
    )


def frame_position(dataset: Dataset, frame: int) -> SlicePosition:
    """Return the position of a frame in an enhanced multi-frame image."""
    orientation = frame_group(dataset, frame, "PlaneOrientationSequence")
    position = frame_group(dataset, frame, "PlanePositionSequence")
    return SlicePosition(
        None if orientation is None else numbers(orientation, "ImageOrientationPatient", 6),
        None if position is None else numbers(position, "ImagePositionPatient", 3),
    )


def _patient(dataset: Dataset) -> str:
    """Return the key of the patient; the study or series replaces a missing ID."""
    patient, issuer = text(dataset, "PatientID"), text(dataset, "IssuerOfPatientID")
    if patient:
        return f"{patient} of {issuer}" if issuer else patient
    return text(dataset, "StudyInstanceUID") or text(dataset, "SeriesInstanceUID")


def _code(modality: str) -> str:
    """Return a modality if it is a code (PS3.3 section C.7.3.1.1.1), since messages quote it; otherwise ""."""
    return modality if re.fullmatch(r"[A-Z][A-Z0-9_]{1,15}", modality) else ""
