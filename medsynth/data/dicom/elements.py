"""Opening DICOM data sets from bytes that may be damaged, and reading single elements without surprises.

What is written in a file may identify a patient: neither an exception of pydicom's nor its warnings leave this folder.
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
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medsynth.contracts import InputError
from medsynth.data.reading import Unreadable

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_MOST_INFLATED = 2**30  # bytes; a deflated file that becomes more is a mistake or an attack
_STEP = 2**20


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """pydicom's warnings and log records may quote values: inside, there are none."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    # Not ``disabled``: that would not hold for the loggers below this one.
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def damage(reason: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes Unreadable(reason): pydicom raises many kinds of errors that quote values."""
    try:
        yield
    except (Unreadable, InputError):
        raise
    except Exception:  # AttributeError, ValueError, TypeError, EOFError, struct.error, RecursionError ...
        raise Unreadable(reason) from None


def looks_like_dicom(head: bytes) -> bool:
    """By content: the prefix DICM after 128 bytes (PS3.10 section 7.1), or a first element that starts a data set."""
    if head[128:132] == b"DICM":
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    if head[:2] in (b"\x02\x00", b"\x08\x00"):
        return len(head) > 8 and (explicit or int.from_bytes(head[4:8], "little") < 2**16)
    return head[:2] == b"\x00\x08" and explicit  # big endian


def parse(data: bytes, *, only: Collection[int] | None = None, stop_at_pixels: bool = False) -> tuple[Dataset, bool]:
    """The data set in ``data``, and whether its pixels were reached; they are left out by ``stop_at_pixels``.

    ``only`` restricts it to these tags. Its transfer syntax is set where the file does not say it, so far as the bytes
    show it.

    Raises:
        Unreadable: it is damaged.
    """
    reached = False

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        nonlocal reached
        reached = reached or tag in PIXELS
        return stop_at_pixels and tag in PIXELS

    with damage("its DICOM header is damaged"):
        _check_inflation(data)
        tags = None if only is None else sorted(only)
        dataset = read_partial(io.BytesIO(data), stop_when=at_pixels, force=True, specific_tags=tags)
        if not text(dataset.file_meta, "TransferSyntaxUID"):
            dataset.file_meta.TransferSyntaxUID = _written_as(dataset)
        return dataset, reached


def syntax(dataset: Dataset) -> UID:
    """The transfer syntax: how the data set, and above all its pixels, are encoded (PS3.5 section 10)."""
    return UID(text(dataset.file_meta, "TransferSyntaxUID"))


def text(dataset: Dataset, keyword: str) -> str:
    """An element as text without padding; "" where it is missing, empty or damaged."""
    try:
        value = dataset.get(keyword)
    except Exception:  # as in ``damage``
        return ""
    if isinstance(value, MultiValue):
        value = "\\".join(map(str, value))
    return "" if value is None else str(value).strip(" \0")


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """An element of ``count`` finite numbers; None where it is missing, damaged or has another count."""
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
        result = tuple(map(float, values))
    except Exception:  # as in ``damage``
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """An element of one finite number, else None."""
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def integer(dataset: Dataset, keyword: str, low: int, high: int, default: int | None = None) -> int:
    """An element that is a whole number from ``low`` to ``high``; ``default`` where it is missing or empty.

    Raises:
        Unreadable: it is something else, or missing without a default.
    """
    if default is not None and not text(dataset, keyword):
        return default
    value = number(dataset, keyword)
    if value is None or value != int(value) or not low <= value <= high:
        raise Unreadable(f"its {keyword} is missing or not possible")
    return int(value)


def frame_group(dataset: Dataset, frame: int, sequence: str) -> Dataset | None:
    """A functional group of one frame, or the one that all frames share (PS3.3 section C.7.6.16); None: neither."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups)
        if items and index < len(items) and items[index].get(sequence):
            return items[index].get(sequence)[0]
    return None


def _written_as(dataset: Dataset) -> UID:
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_inflation(data: bytes) -> None:
    """Refuse a deflated data set (PS3.5 section A.5) that becomes too large, before pydicom inflates it at once."""
    if str(DeflatedExplicitVRLittleEndian).encode() not in data[:4096]:
        return
    # File meta information begins with its own length, an element of 12 bytes (PS3.10 section 7.1).
    start = 144 + int.from_bytes(data[140:144], "little")
    inflator, total, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, memoryview(data)[start:]
    while rest and not inflator.eof:
        piece, rest = bytes(rest[:_STEP]), rest[_STEP:]
        while piece and not inflator.eof:
            total += len(inflator.decompress(piece, _STEP))
            if total > _MOST_INFLATED:
                raise Unreadable(f"it becomes more than {_MOST_INFLATED / 2**30:.0f} GiB once inflated")
            piece = inflator.unconsumed_tail
