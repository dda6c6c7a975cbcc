"""From the data set of one file to its pictures."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from medsynth.data.dicom.elements import frame_group, numbers, text
from medsynth.data.dicom.headers import frame_place
from medsynth.data.dicom.pixels import stored_frames, stored_type
from medsynth.data.dicom.series import in_order, taken
from medsynth.data.dicom.values import colored, measured
from medsynth.data.reading import Picture


def pictures(dataset: Dataset, *, every: int, skip_ends: int) -> tuple[list[Picture], int]:
    """The frames, those of a volume along its normal, and how many are not taken.

    Raises:
        InputError: a plugin that decodes them is not installed.
        Unreadable: they cannot be understood.
    """
    stored, raw = stored_frames(dataset)
    order = list(range(len(raw)))
    if len(raw) > 1:
        order = in_order([frame_place(dataset, frame) for frame in order])
        order = taken(order, every=every, skip_ends=skip_ends)
    return [_picture(stored[frame], raw[frame], dataset, frame) for frame in order], len(raw) - len(order)


def _picture(stored: np.ndarray, raw: np.ndarray, dataset: Dataset, frame: int) -> Picture:
    kind, remarks = stored_type(raw), ()
    if text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        stored, bits = colored(stored, dataset)
        kind = "8-bit" if bits == 8 else "16-bit"
    if stored.ndim == 3:
        values = stored.transpose(2, 0, 1).astype(np.float32)
    else:
        gray, remarks = measured(stored, raw, dataset, frame)
        values = gray[None]
    return Picture(np.ascontiguousarray(values), kind, spacing=_spacing(dataset, frame), remarks=remarks)


def _spacing(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Millimetres between rows and between columns: in the patient, or, of projections, on the detector."""
    group = frame_group(dataset, frame, "PixelMeasuresSequence")
    for source, keyword in ((group, "PixelSpacing"), (dataset, "PixelSpacing"), (dataset, "ImagerPixelSpacing")):
        spacing = None if source is None else numbers(source, keyword, 2)
        if spacing and min(spacing) > 0:
            return spacing
    return None
