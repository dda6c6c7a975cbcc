"""The raw images of one file, from its data set."""

from __future__ import annotations

from collections import Counter

import numpy as np
from pydicom.dataset import Dataset

from medsynth.data.dicom.elements import frame_group, number, numbers, text
from medsynth.data.dicom.headers import frame_position
from medsynth.data.dicom.pixels import stored_frames, stored_type
from medsynth.data.dicom.selection import OTHER_TYPE, SLICES, Selection
from medsynth.data.dicom.series import selected
from medsynth.data.dicom.values import colored, measured
from medsynth.data.errors import Reason
from medsynth.data.reading import RawImage

_TWO_DIMENSIONAL, _CENTIMETERS = 1, 3  # RegionSpatialFormat and PhysicalUnitsXDirection of ultrasound regions


def raw_images(
    dataset: Dataset, selection: Selection, *, every: int, skip_ends: int
) -> tuple[list[RawImage], Counter[Reason]]:
    """Return the selected frames, those of a volume along its normal, and counts of the frames that are left out.

    Raises:
        Unreadable: they cannot be decoded.
    """
    stored, raw = stored_frames(dataset)
    order, left_out = frame_order(dataset, len(raw), selection, every=every, skip_ends=skip_ends)
    return [_raw_image(stored[frame], raw[frame], dataset, frame) for frame in order], left_out


def frame_order(
    dataset: Dataset, count: int, selection: Selection, *, every: int, skip_ends: int
) -> tuple[list[int], Counter[Reason]]:
    """Return the numbers of the selected frames of ``count``, and counts of the others; see ``raw_images``."""
    frames = order = selection.frames(dataset, count)
    if count > 1:
        positions = [frame_position(dataset, frame) for frame in frames]
        order = [frames[index] for index in selected(positions, every=every, skip_ends=skip_ends)]
    return order, Counter({SLICES: len(frames) - len(order), OTHER_TYPE: count - len(frames)})


def _raw_image(stored: np.ndarray, raw: np.ndarray, dataset: Dataset, frame: int) -> RawImage:
    kind, remarks = stored_type(raw), ()
    if text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        stored, bits = colored(stored, dataset)
        kind = "8-bit" if bits == 8 else "16-bit"
    if stored.ndim == 3:
        values = stored.transpose(2, 0, 1).astype(np.float32)
    else:
        gray, remarks = measured(stored, raw, dataset, frame)
        values = gray[None]
    spacing, aspect = _spacing(dataset, frame), _aspect(dataset)
    return RawImage(np.ascontiguousarray(values), kind, spacing=spacing, aspect=aspect, remarks=remarks)


def _spacing(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Return millimeters between rows and between columns: in the patient, or on the detector or film."""
    group = frame_group(dataset, frame, "PixelMeasuresSequence")
    keywords = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    for source, keyword in ((group, "PixelSpacing"), *((dataset, keyword) for keyword in keywords)):
        spacing = None if source is None else numbers(source, keyword, 2)
        if spacing and min(spacing) > 0:
            return spacing[0], spacing[1]
    return _spacing_of_regions(dataset)


def _spacing_of_regions(dataset: Dataset) -> tuple[float, float] | None:
    """Return the spacing of an ultrasound image (PS3.3 section C.8.5.5); None if its regions have several, or none."""
    found = set[tuple[float, float]]()
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        codes = ("RegionSpatialFormat", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection")
        if [number(region, code) for code in codes] == [_TWO_DIMENSIONAL, _CENTIMETERS, _CENTIMETERS]:
            down, across = (number(region, f"PhysicalDelta{axis}") or 0.0 for axis in "YX")
            found.add((round(abs(down) * 10, 9), round(abs(across) * 10, 9)))
    spacing = found.pop() if len(found) == 1 else (0.0, 0.0)
    return spacing if min(spacing) > 0 else None


def _aspect(dataset: Dataset) -> float:
    """Return the height of a pixel divided by its width, PixelAspectRatio; 1 if it is missing or impossible."""
    aspect = numbers(dataset, "PixelAspectRatio", 2)
    return aspect[0] / aspect[1] if aspect and min(aspect) > 0 else 1.0
