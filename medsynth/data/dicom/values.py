"""Conversion of stored to measured values: modality transformation, unit, padding, MONOCHROME1, palettes.

PS3.3 section C.11.1 (Modality LUT), C.7.6.3 (Image Pixel), C.7.9 (Palette Color Lookup Table), C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

import math

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut  # pyright: ignore[reportPrivateImportUsage]

from medsynth.data.dicom.elements import frame_group, integer, number, syntax, text
from medsynth.data.errors import Unreadable

_RESCALE_TYPES = {  # section C.11.1.1.2; US (unspecified, written by GDCM when it converts files) has no known unit
    "HU": "HU",
    "HU_MOD": "modified HU",
    "OD": "OD/1000",
    "MGML": "mg/ml",
    "Z_EFF": "effective atomic number",
    "ED": "10^23 electrons/ml",
    "EDW": "electron density relative to water",
    "PCT": "%",
}
_PET_UNITS = {  # section C.8.9.1.1.3
    "BQML": "Bq/ml",
    "CNTS": "counts",
    "CPS": "counts/s",
    "GML": "g/ml",
    "PCNT": "%",
    "PROPCNTS": "proportional to counts",
    "PROPCPS": "proportional to counts/s",
}


def unit(dataset: Dataset, transformation: Dataset | None = None) -> str:
    """Return the unit of the values after the modality transformation; "" if unspecified or not transformed.

    ``transformation`` is the frame's functional group, if it has one. Values of CT without a type are in HU.
    """
    if integer(dataset, "SamplesPerPixel", 1, 4, default=1) != 1:
        return ""
    tables = dataset.get("ModalityLUTSequence")
    if tables:
        return _RESCALE_TYPES.get(text(tables[0], "ModalityLUTType"), "")
    modality, source = text(dataset, "Modality"), dataset if transformation is None else transformation
    kind = text(source, "RescaleType")
    if modality == "PT" and not kind:
        return _PET_UNITS.get(text(dataset, "Units"), "")
    # Enhanced CT may store its rescaling with each frame, which is not parsed before reading.
    rescaled = any(text(source, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    rescaled = rescaled or dataset.get("SharedFunctionalGroupsSequence") is not None
    if modality == "CT" and not kind and rescaled:
        return "HU"
    return _RESCALE_TYPES.get(kind, "")


def measured(stored: np.ndarray, raw: np.ndarray, dataset: Dataset, frame: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the values of a gray frame in its unit, and remarks.

    In MONOCHROME1, or with PresentationLUTShape INVERSE, low values are bright. Values with a unit are measured and not
    changed; values without a unit are inverted within the range of BitsStored, or of a table's entries, so that high is
    bright in all images. PixelPaddingValue marks pixels that were not measured: they become the lowest measured value
    of the frame, unless the value lies among the measured ones. A slope of 0, or a missing one, is 1.

    Args:
        stored: values of the used bits, (H, W).
        raw: values of all bits allocated, since some files store padding outside of the stored range.
        dataset: the file.
        frame: counted from 0.

    Raises:
        Unreadable: the transformation is impossible, or its values are not finite.
    """
    remarks: list[str] = []
    padding, unused = _padding(stored, raw, dataset)
    group = frame_group(dataset, frame, "PixelValueTransformationSequence")
    source = dataset if group is None else group
    invert = _low_is_bright(dataset) and not unit(dataset, group)
    if invert:
        if stored.dtype.kind == "f":
            raise Unreadable("it is MONOCHROME1 or INVERSE, which has no meaning for floating-point values")
        remarks.append("were stored inverted (MONOCHROME1 or INVERSE) and are inverted again, so that high is bright")
    with np.errstate(all="ignore"):  # overflows are found below
        values = _transformed(stored, dataset, group, invert).astype(np.float32)
    if number(source, "RescaleSlope") == 0 and not dataset.get("ModalityLUTSequence"):
        remarks.append("have RescaleSlope 0, which is taken for 1")
    if unused:
        remarks.append("have a PixelPaddingValue that lies among their measured values and is not replaced")
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min()
        remarks.append("have padding (PixelPaddingValue), which is set to their lowest value")
    if not np.isfinite(values).all():
        raise Unreadable("it holds values that are not finite numbers")
    return values, tuple(remarks)


def _low_is_bright(dataset: Dataset) -> bool:
    """Return whether low values are to be displayed bright (PS3.3 sections C.7.6.3.1.2 and C.11.6.1.2)."""
    inverse = text(dataset, "PresentationLUTShape") == "INVERSE"
    return inverse or text(dataset, "PhotometricInterpretation") == "MONOCHROME1"


def colored(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, int]:
    """Map palette indices (H, W) to red, green and blue (H, W, 3) as integers, and return the bits of each too.

    Raises:
        Unreadable: the palette is missing or damaged.
    """
    if "RedPaletteColorLookupTableData" not in dataset:
        count, _, bits = dataset.RedPaletteColorLookupTableDescriptor
        # pydicom counts the entries of an 8-bit palette in 8 bits, and assumes little-endian.
        if not syntax(dataset).is_little_endian or (bits == 8 and not 0 < count <= 256):
            raise Unreadable("its segmented palette is big-endian or damaged: convert it to RGB")
        colors = apply_color_lut(stored, dataset)[..., :3]
        return colors, 8 * colors.dtype.itemsize
    tables = [
        _table(dataset, f"{color}PaletteColorLookupTableDescriptor", f"{color}PaletteColorLookupTableData")
        for color in ("Red", "Green", "Blue")
    ]
    first = tables[0][1]
    channels = [entries[np.clip(stored.astype(np.int64) - first, 0, len(entries) - 1)] for entries, _, _ in tables]
    return np.stack(channels, -1), 8 if tables[0][2] <= 8 else 16


def _transformed(stored: np.ndarray, dataset: Dataset, group: Dataset | None, invert: bool) -> np.ndarray:
    tables = dataset.get("ModalityLUTSequence")
    if tables and group is None:
        entries, first, _ = _table(tables[0], "LUTDescriptor", "LUTData", little=syntax(dataset).is_little_endian)
        if invert:
            entries = entries.min() + entries.max() - entries  # descriptors often claim more bits than are used
        return entries[np.clip(stored.astype(np.int64) - first, 0, len(entries) - 1)]
    if invert:
        bits, signed = integer(dataset, "BitsStored", 1, 64), integer(dataset, "PixelRepresentation", 0, 1)
        # Lowest plus highest is 2^bits - 1 for unsigned and -1 for signed values.
        stored = (-1 if signed else 2**bits - 1) - stored.astype(np.int64)
    source = dataset if group is None else group
    if "RescaleSlope" not in source and "RescaleIntercept" not in source:
        return stored
    slope = number(source, "RescaleSlope") if text(source, "RescaleSlope") else 1.0
    intercept = number(source, "RescaleIntercept") if text(source, "RescaleIntercept") else 0.0
    if slope is None or intercept is None:
        raise Unreadable("its RescaleSlope or RescaleIntercept is impossible")
    return stored.astype(np.float64) * (slope or 1.0) + intercept


def _table(dataset: Dataset, descriptor: str, data: str, *, little: bool | None = None) -> tuple[np.ndarray, int, int]:
    """Return a lookup table's entries, the stored value of the first, and its bits (PS3.3 section C.11.1.1.1)."""
    count, first, bits = (int(value) for value in dataset[descriptor].value)
    count = count % 2**16 or 2**16
    if first >= 2**15 and integer(dataset, "PixelRepresentation", 0, 1, default=0):
        first -= 2**16
    content = dataset[data].value
    if isinstance(content, bytes):
        wide = len(content) >= 2 * count
        order = "<" if (syntax(dataset).is_little_endian if little is None else little) else ">"
        entries = np.frombuffer(content[: len(content) // 2 * 2 if wide else None], f"{order}u2" if wide else "u1")
        bits = max(bits, 8) if wide else 8
    else:
        entries = np.atleast_1d(np.asarray(content, np.int64))
    if len(entries) < count or not 1 <= bits <= 16:
        raise Unreadable("its lookup table is damaged")
    return entries[:count].astype(np.int64), first, bits


def _padding(stored: np.ndarray, raw: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, bool]:
    """Return a mask of the padding in a frame, and whether padding is not replaced since its value was measured too."""
    equal, beyond = _padded(stored, raw, dataset)
    rest = stored[~(equal | beyond)]
    if equal.any() and rest.size and stored[equal].max() > rest.min() and stored[equal].min() < rest.max():
        return beyond, True
    return equal | beyond, False


def _padded(stored: np.ndarray, raw: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of the pixels that have the padding's value: in the bits stored, and in all bits alone."""
    none = np.zeros(stored.shape, dtype=bool)
    if stored.dtype.kind == "f":
        for keyword in ("FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"):
            if keyword in dataset:
                value = float(dataset.get(keyword))
                return np.isnan(stored) if math.isnan(value) else stored == value, none
        return none, none
    value = number(dataset, "PixelPaddingValue")
    if value is None:
        return none, none
    limit = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((_signed(value, raw), _signed(value if limit is None else limit, raw)))
    equal = (stored >= low) & (stored <= high)
    all_bits_count = integer(dataset, "BitsStored", 1, 64) < 8 * raw.dtype.itemsize
    return equal, all_bits_count & (raw >= low) & (raw <= high) & ~equal


def _signed(value: float, raw: np.ndarray) -> float:
    """Return a value in the signedness of ``raw``: some files confuse signed and unsigned numbers of the same bits."""
    period = 2 ** (8 * raw.dtype.itemsize)
    if raw.dtype.kind == "i":
        return value - period if value >= period / 2 else value
    return value + period if value < 0 else value
