"""Safe access to DICOM data sets: opening bytes that may be damaged, and reading single elements.

The content of a file may identify a patient: neither pydicom's exceptions nor its warnings leave this package.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
import zlib
from collections.abc import Collection, Iterator

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medsynth.data.errors import Unreadable
from medsynth.errors import InputError

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_LARGEST_INFLATED = 2**30  # bytes; a deflated file that becomes larger is a mistake or an attack
_STEP = 2**20  # bytes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress pydicom's warnings and log records, which may quote values, in a ``with`` block."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    # ``disabled`` would not apply to the loggers below this one.
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def damage(reason: str) -> Iterator[None]:
    """Turn all errors of a ``with`` block into Unreadable(reason): pydicom raises many kinds that quote values."""
    try:
        yield
    except (Unreadable, InputError):
        raise
    except Exception:  # AttributeError, ValueError, TypeError, EOFError, struct.error, RecursionError ...
        raise Unreadable(reason) from None


def looks_like_dicom(head: bytes) -> bool:
    """Recognize DICOM by DICM after 128 bytes (PS3.10 section 7.1), or by a first element that starts a data set."""
    if head[128:132] == b"DICM":
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    if head[:2] in (b"\x02\x00", b"\x08\x00"):
        return len(head) > 8 and (explicit or int.from_bytes(head[4:8], "little") < 2**16)
    return head[:2] == b"\x00\x08" and explicit  # big endian


def parse(data: bytes, *, only: Collection[int] | None = None, stop_at_pixels: bool = False) -> tuple[Dataset, bool]:
    """Parse a data set.

    A missing transfer syntax is set as the encoding shows it.

    Args:
        data: the bytes of the file, or its beginning.
        only: restricts the data set to these tags; None: all.
        stop_at_pixels: leave the pixel data out.

    Returns:
        The data set, and whether its pixel data was reached.

    Raises:
        Unreadable: it is damaged.
    """
    reached = False

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal reached
        reached = reached or tag in PIXELS
        return stop_at_pixels and tag in PIXELS

    with damage("its DICOM header is damaged"):
        _check_inflation(data)
        tags = None if only is None else sorted(only)
        dataset = read_partial(io.BytesIO(data), stop_when=at_pixels, force=True, specific_tags=tags)
        if not text(dataset.file_meta, "TransferSyntaxUID"):
            dataset.file_meta.TransferSyntaxUID = _encoding_of(dataset)
        return dataset, reached


def syntax(dataset: Dataset) -> UID:
    """Return the transfer syntax: the encoding of the data set and of its pixels (PS3.5 section 10)."""
    return UID(text(dataset.file_meta, "TransferSyntaxUID"))


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text without padding; "" if it is missing, empty or damaged."""
    try:
        value = dataset.get(keyword)
    except Exception:  # as in ``damage``
        return ""
    if isinstance(value, MultiValue):
        value = "\\".join(map(str, value))
    return "" if value is None else str(value).strip(" \0")


def private_text(dataset: Dataset, group: int, creator: str, element: int) -> str:
    """Return an element of a manufacturer's block as text (PS3.5 section 7.8); "" if it is missing or damaged."""
    try:
        value = dataset.private_block(group, creator)[element].value
        return (value.decode("ascii") if isinstance(value, bytes) else str(value)).strip(" \0")
    except Exception:  # as in ``damage``
        return ""


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return an element of ``count`` finite numbers; None if it is missing, damaged or has another count."""
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
        result = tuple(map(float, values))
    except Exception:  # as in ``damage``
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return an element of one finite number, otherwise None."""
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def integer(dataset: Dataset, keyword: str, low: int, high: int, default: int | None = None) -> int:
    """Return an element that is a whole number from ``low`` to ``high``; ``default`` if it is missing or empty.

    Raises:
        Unreadable: it has another value, or is missing without a default.
    """
    if default is not None and not text(dataset, keyword):
        return default
    value = number(dataset, keyword)
    if value is None or value != int(value) or not low <= value <= high:
        raise Unreadable(f"its {keyword} is missing or impossible")
    return int(value)


def frame_group(dataset: Dataset, frame: int, sequence: str) -> Dataset | None:
    """Return a functional group of a frame, or the shared one of all frames (PS3.3 section C.7.6.16); None: neither."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups)
        if items and index < len(items) and items[index].get(sequence):
            return items[index].get(sequence)[0]
    return None


def _encoding_of(dataset: Dataset) -> UID:
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_inflation(data: bytes) -> None:
    """Refuse a deflated data set (PS3.5 section A.5) that becomes too large, before pydicom inflates it whole."""
    if str(DeflatedExplicitVRLittleEndian).encode() not in data[:4096]:
        return
    # The file meta information begins with its own length, an element of 12 bytes (PS3.10 section 7.1).
    start = 144 + int.from_bytes(data[140:144], "little")
    inflator, total, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, memoryview(data)[start:]
    while rest and not inflator.eof:
        piece, rest = bytes(rest[:_STEP]), rest[_STEP:]
        while piece and not inflator.eof:
            total += len(inflator.decompress(piece, _STEP))
            if total > _LARGEST_INFLATED:
                raise Unreadable(f"it becomes more than {_LARGEST_INFLATED / 2**30:.0f} GiB once inflated")
            piece = inflator.unconsumed_tail
