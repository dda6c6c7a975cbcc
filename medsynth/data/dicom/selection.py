"""The files and frames among DICOM images that belong to the set: as the options ask, and no captures or mosaics."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from medsynth.data.dicom.elements import frame_group, text
from medsynth.data.dicom.headers import SCOUTS, Header, component, values_of
from medsynth.data.errors import Reason, ReasonKind

OTHER_MODALITY = Reason(ReasonKind.NOT_SELECTED, "another modality (data.reader.modality)")
OTHER_SERIES = Reason(ReasonKind.NOT_SELECTED, "another series (data.reader.series)")
OTHER_DESCRIPTION = Reason(ReasonKind.NOT_SELECTED, "another description (data.reader.description)")
SCOUT = Reason(ReasonKind.NOT_SELECTED, "a scout or screen capture (data.reader.scouts)")
CAPTURE = Reason(ReasonKind.NOT_SELECTED, "secondary captures beside images of the modality (data.reader.captures)")
COLOR_PAGE = Reason(ReasonKind.NOT_SELECTED, "color pages among gray images (data.reader.captures)")
BURNED_IN = Reason(ReasonKind.NOT_SELECTED, "images with burned-in annotations (data.reader.captures)")
MOSAIC = Reason(
    ReasonKind.UNSUPPORTED, "mosaics of the slices of a volume (convert them with dcm2niix and use data=nifti)"
)
OTHER_INTENT = Reason(ReasonKind.NOT_SELECTED, "images for processing or for presentation (data.reader.intent)")
OTHER_TYPE = Reason(ReasonKind.NOT_SELECTED, "of another type than the rest (data.reader.image_type)")
SLICES = Reason(ReasonKind.NOT_SELECTED, "slices (data.reader.every, data.reader.skip_ends)")
PRESENTATION, PROCESSING = INTENTS = ("presentation", "processing")
# Modalities whose images are gray: color among them is a page of text or a fusion.
_GRAY = {"CT", "MR", "PT", "NM", "CR", "DX", "MG", "RF", "XA", "IO", "PX"}
_PREFERRED = ("MAGNITUDE", "", "REAL", "IMAGINARY", "PHASE", "FIELD MAP", "ADC", "FA")  # of several components
# The functional groups that give a frame's type (PS3.3 section C.8).
_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XRay3DFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
)


@dataclasses.dataclass(frozen=True)
class Selection:
    """The options of DICOM readers that decide what belongs to a set; conf/data/dicom.yaml describes them.

    An empty ``modalities`` or ``series`` takes all, as does a ``description`` that is None.
    """

    modalities: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    description: re.Pattern[str] | None = None
    scouts: bool = False
    captures: bool = False
    intent: str | None = None
    image_type: str | None = None

    def files(self, headers: Sequence[Header]) -> tuple[list[Header], Counter[Reason]]:
        """Return the files that belong to the set, and counts of the others.

        What a file is left out for depends on the others: a set of secondary captures alone is a set of images.
        """
        left_out = Counter[Reason]()
        selected = list(headers)
        rules: list[tuple[Reason, Callable[[list[Header]], Callable[[Header], bool]]]] = [
            (OTHER_MODALITY, lambda _: lambda header: bool(self.modalities) and header.modality not in self.modalities),
            (OTHER_SERIES, lambda _: lambda header: bool(self.series) and header.series not in self.series),
            (OTHER_DESCRIPTION, lambda _: self._other_description),
            (SCOUT, lambda _: self.other_scout),
            (MOSAIC, lambda _: lambda header: header.mosaic),
            *([] if self.captures else [(CAPTURE, _capture), (COLOR_PAGE, _color_page), (BURNED_IN, _burned_in)]),
            (OTHER_INTENT, self._other_intent),
            (OTHER_TYPE, self._other_type),
        ]
        for reason, rule in rules:
            excluded = rule(selected)
            kept = [header for header in selected if not excluded(header)]
            left_out[reason] += len(selected) - len(kept)
            selected = kept
        return selected, left_out

    def frames(self, dataset: Dataset, count: int) -> list[int]:
        """Return the numbers of the frames that belong together: those of the type that is asked for, or of one type.

        Of several types the order is: images before localizers, the magnitude before other components, original before
        derived, primary before secondary; then the alphabet decides, so that all files of a kind choose alike.
        """
        types = [_frame_type(dataset, frame) for frame in range(count)]
        if self.image_type is not None:
            return [frame for frame, own in enumerate(types) if self._asked(*own)]
        chosen = min(types, key=_rank)
        return [frame for frame, own in enumerate(types) if own == chosen]

    def other_scout(self, header: Header) -> bool:
        """Return whether a file is a scout, and these are left out."""
        return header.scout and not self.scouts

    def _other_description(self, header: Header) -> bool:
        return self.description is not None and self.description.search(header.series_description) is None

    def _other_intent(self, headers: list[Header]) -> Callable[[Header], bool]:
        both = {header.modality for header in headers if header.intent == PROCESSING} & {
            header.modality for header in headers if header.intent == PRESENTATION
        }
        if self.intent is not None:
            return lambda header: header.intent not in ("", self.intent)
        return lambda header: header.intent == PROCESSING and header.modality in both

    def _other_type(self, headers: list[Header]) -> Callable[[Header], bool]:
        if self.image_type is not None:  # frames of one file are selected when they are read
            return lambda header: header.frames == 1 and not self._asked(header.image_type, header.component)
        present = {header.component for header in headers} - {""}
        chosen = min(present, key=_PREFERRED.index, default="")
        return lambda header: header.component not in ("", chosen)

    def _asked(self, values: tuple[str, ...], of_component: str) -> bool:
        return str(self.image_type).upper() in (*values, of_component)


def _capture(headers: list[Header]) -> Callable[[Header], bool]:
    primary = {header.modality for header in headers if not header.capture}
    return lambda header: header.capture and header.modality in primary


def _color_page(headers: list[Header]) -> Callable[[Header], bool]:
    gray = {header.modality for header in headers if not header.color} & _GRAY
    return lambda header: header.color and header.modality in gray


def _burned_in(_: list[Header]) -> Callable[[Header], bool]:
    return lambda header: header.burned_in


def _frame_type(dataset: Dataset, frame: int) -> tuple[tuple[str, ...], str]:
    """Return the values of FrameType and the component of a frame; those of the file where frames have none."""
    for sequence in _FRAME_TYPES:
        group = frame_group(dataset, frame, sequence)
        if group is not None and text(group, "FrameType"):
            values = values_of(group, "FrameType")
            return values, component(group, values)
    values = values_of(dataset, "ImageType")
    return values, component(dataset, values)


def _rank(own: tuple[tuple[str, ...], str]) -> tuple[object, ...]:
    values, of_component = own
    scout = bool(SCOUTS & set(values))
    return scout, _PREFERRED.index(of_component), "ORIGINAL" not in values, "PRIMARY" not in values, values
