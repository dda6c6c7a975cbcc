"""Decoding of stored values by pydicom and its plugins for compressed transfer syntaxes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import as_pixel_options, get_decoder  # pyright: ignore[reportPrivateImportUsage]
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGExtended12Bit, RLELossless

from medsynth.data.dicom.decoder import decode_safely
from medsynth.data.dicom.elements import PIXELS, damage, integer, syntax, text
from medsynth.data.errors import ReasonKind, Unreadable
from medsynth.errors import extra_command

# Pillow comes first: it refuses damaged streams that GDCM decodes to a wrong image.
_PLUGINS = ("pillow", "pydicom", "gdcm", "pylibjpeg", "pyjpegls")
_GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 streams
_MOST_VALUES = 2**27  # in a frame, 11,585 pixels squared; more is a mistake or an attack
_MOST_VALUES_OF_FILE = 2**29  # 2 GiB as float32


def plugins(uid: UID, *, samples: int, bits: int) -> tuple[str, ...]:
    """Return the names of the installed plugins that decode a transfer syntax, the first choice first; "": none needed.

    Raises:
        Unreadable: no plugin decodes it, or none of those is installed: then the reason says what to install.
    """
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        decoder = None
    if decoder is None:
        known = uid.name if uid.is_valid and uid.name != uid else "unknown"  # else it may hold any text
        raise Unreadable(
            f"its transfer syntax ({known}) is not supported: convert it with gdcmconv --raw", ReasonKind.UNSUPPORTED
        )
    if decoder.is_native:
        return ("",)
    suited = [name for name in _PLUGINS if _suits(name, uid, samples, bits)]
    installed = tuple(name for name in suited if name in decoder.available_plugins)
    if not installed:
        raise Unreadable(f"it is compressed as {uid.name}, which needs a decoder: {_installation(decoder, suited)}")
    return installed


def stored_frames(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Decode the frames of a file.

    Returns:
        The values of the bits stored, and of all bits allocated; each (F, H, W), or (F, H, W, 3) in RGB.

    Raises:
        Unreadable: the file is damaged, too large, of an unsupported kind, or no plugin that decodes it is installed.
    """
    keyword, frames = _check_layout(dataset)
    uid, samples = syntax(dataset), integer(dataset, "SamplesPerPixel", 1, 3)
    names = plugins(uid, samples=samples, bits=integer(dataset, "BitsStored", 1, 64, default=32))
    whole = not uid.is_compressed or uid == RLELossless  # all bits allocated are kept, unused ones too
    options = as_pixel_options(dataset) | {"pixel_keyword": keyword, "pixel_vr": dataset[keyword].VR}
    # Excess frames are detected below if compressed; otherwise by the length of the pixel data.
    options |= {"allow_excess_frames": uid.is_encapsulated} | ({"correct_unused_bits": False} if whole else {})
    with damage("its pixel data is damaged"):
        raw, properties = _decoded(uid, names, dataset[keyword].value, options)
        if properties["number_of_frames"] != frames:
            raise Unreadable("it holds more frames than its header says")
        if samples == 3 and properties["photometric_interpretation"] != "RGB":
            raise Unreadable(
                "its PhotometricInterpretation is not supported with its compression: convert it with gdcmconv --raw"
            )
        raw = raw if frames > 1 else raw[None]
        return _used_bits(raw, dataset) if whole and raw.dtype.kind in "iu" else raw, raw


def _decoded(
    uid: UID, names: Sequence[str], content: bytes, options: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode by the first of the plugins that can: some refuse a kind of stream that another one decodes.

    Raises:
        Exception: of many kinds; the content is damaged.
    """
    *others, last = names if _complete(uid, content, options["number_of_frames"]) else names[:1]
    for name in others:
        with contextlib.suppress(Exception):  # the next one decides
            return decode_safely(str(uid), name, content, options)
    return decode_safely(str(uid), last, content, options)


def _complete(uid: UID, content: bytes, frames: int) -> bool:
    """Return whether each frame reaches to its end marker: of what is cut off, some plugins make a wrong image."""
    if uid == RLELossless:
        return False
    with contextlib.suppress(Exception):  # damaged encapsulation
        streams = list(generate_frames(content, number_of_frames=frames))
        return len(streams) == frames and all(stream.rstrip(b"\0").endswith(_END) for stream in streams)
    return False


def stored_type(values: np.ndarray) -> str:
    """Return the stored type, named as in ``reading.RawImage``."""
    if values.dtype.kind == "f":
        return "floating-point"
    return {1: "8-bit", 2: "16-bit"}.get(values.dtype.itemsize, "32-bit integer")


def _check_layout(dataset: Dataset) -> tuple[str, int]:
    """Return the pixel data's keyword and the number of frames; Unreadable if the header is impossible."""
    keywords = [keyword for keyword in PIXELS.values() if keyword in dataset]
    if len(keywords) != 1:
        raise Unreadable("it has no pixel data")
    content = dataset[keywords[0]].value
    rows, columns = integer(dataset, "Rows", 1, 2**16 - 1), integer(dataset, "Columns", 1, 2**16 - 1)
    samples = integer(dataset, "SamplesPerPixel", 1, 3)
    frames = integer(dataset, "NumberOfFrames", 1, 2**31, default=1)
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in (_GRAY if samples == 1 else _COLOR):
        raise Unreadable(
            f"its PhotometricInterpretation is missing or not one of {', '.join(_GRAY if samples == 1 else _COLOR)}"
        )
    allocated = integer(dataset, "BitsAllocated", 1, 64)
    if keywords == ["PixelData"]:
        _check_bits(dataset, allocated)
    if rows * columns * samples > _MOST_VALUES or rows * columns * samples * frames > _MOST_VALUES_OF_FILE:
        raise Unreadable(f"it claims {rows} x {columns} pixels in {frames} frames, which is too large")
    if not content:
        raise Unreadable("it has no pixel data")
    if not syntax(dataset).is_encapsulated:
        values = rows * columns * frames * (2 if photometric == "YBR_FULL_422" else samples)
        _check_length(content, math.ceil(values * allocated / 8))
    return keywords[0], frames


def _check_bits(dataset: Dataset, allocated: int) -> None:
    stored = integer(dataset, "BitsStored", 1, allocated)
    integer(dataset, "HighBit", stored - 1, allocated - 1, default=stored - 1)
    integer(dataset, "PixelRepresentation", 0, 1)
    if allocated not in (1, 8, 16, 32):
        raise Unreadable("its BitsAllocated is none of 1, 8, 16 and 32")


def _check_length(content: bytes, expected: int) -> None:
    if len(content) < expected:
        raise Unreadable("its pixel data is shorter than its header says")
    # Writers pad with zeros, or with one byte. Anything else is image data: with a wrong header, rows would be sheared.
    if len(content) > expected + 1 and any(content[expected:]):
        raise Unreadable("its pixel data is longer than its header says")


def _used_bits(raw: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Remove bits above HighBit (overlays in old files) and below, and extend the sign (PS3.5 section 8.1.1)."""
    allocated, stored = 8 * raw.dtype.itemsize, integer(dataset, "BitsStored", 1, 64)
    high = integer(dataset, "HighBit", stored - 1, allocated - 1, default=stored - 1)
    if stored == allocated:
        return raw
    return raw << (allocated - 1 - high) >> (allocated - stored)


def _suits(name: str, uid: UID, samples: int, bits: int) -> bool:
    """Return whether a plugin decodes such images: some plugins refuse part of a transfer syntax that they list."""
    if name in ("pillow", "gdcm") and uid == JPEGExtended12Bit and bits != 8:
        return False
    return not (name == "pillow" and uid in JPEG2000TransferSyntaxes and (bits > 16 or (samples > 1 and bits > 8)))


def _installation(decoder: Decoder, suited: list[str]) -> str:
    if "gdcm" in suited and any(missing.startswith("gdcm") for missing in decoder.missing_dependencies):
        return extra_command("dicom")
    return "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg into the environment of medsynth"
