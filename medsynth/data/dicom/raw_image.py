"""The raw images of one file, from its data set."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from medsynth.data.dicom.elements import frame_group, numbers, text
from medsynth.data.dicom.headers import frame_position
from medsynth.data.dicom.pixels import stored_frames, stored_type
from medsynth.data.dicom.series import in_order, selected
from medsynth.data.dicom.values import colored, measured
from medsynth.data.reading import RawImage


def raw_images(dataset: Dataset, *, every: int, skip_ends: int) -> tuple[list[RawImage], int]:
    """Return the selected frames, those of a volume along its normal, and the number of frames that are not selected.

    Raises:
        InputError: the plugin that decodes them is not installed.
        Unreadable: they cannot be decoded.
    """
    stored, raw = stored_frames(dataset)
    order = list(range(len(raw)))
    if len(raw) > 1:
        order = in_order([frame_position(dataset, frame) for frame in order])
        order = selected(order, every=every, skip_ends=skip_ends)
    return [_raw_image(stored[frame], raw[frame], dataset, frame) for frame in order], len(raw) - len(order)


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
    return RawImage(np.ascontiguousarray(values), kind, spacing=_spacing(dataset, frame), remarks=remarks)


def _spacing(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Return millimeters between rows and between columns: in the patient, or on the detector for projections."""
    group = frame_group(dataset, frame, "PixelMeasuresSequence")
    for source, keyword in ((group, "PixelSpacing"), (dataset, "PixelSpacing"), (dataset, "ImagerPixelSpacing")):
        spacing = None if source is None else numbers(source, keyword, 2)
        if spacing and min(spacing) > 0:
            return spacing[0], spacing[1]
    return None
