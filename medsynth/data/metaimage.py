"""MetaImage files (.mha, .mhd), decoded to volumes in RAS order and written. Damaged or ambiguous ones are refused.

The format is that of ITK (https://itk.org/Wiki/ITK/MetaIO/Documentation): lines "Key = value", the last of which is
ElementDataFile, then the voxels, raw or compressed by zlib. Positions and directions are in LPS order.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from medsynth.data.errors import Unreadable
from medsynth.data.masks import holds_few_integers
from medsynth.data.nifti_volume import Volume, planes
from medsynth.data.tree import LARGEST

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_STORED_TYPES = {"u1": "8-bit", "i1": "signed 8-bit", "u2": "16-bit", "i2": "signed 16-bit"}
_LONGEST_HEADER = 2**16  # bytes
_FLATTEST = 1e-3  # smallest volume that three unit axes may span


def load_metaimage(
    content: bytes, *, beside: Callable[[str], bytes] | None = None, nan_value: float | None = None
) -> Volume:
    """Decode a .mha file with its voxels in it, or a .mhd file.

    Args:
        content: of the file.
        beside: name of a file in the same folder -> its content; None: the voxels must be in ``content``.
        nan_value: replaces NaN; None: NaN is refused.

    Raises:
        Unreadable: the file is damaged, larger than LARGEST, has other dimensions than three or several channels, or
            holds values that are not finite.
    """
    header, start = _header(content)
    kind = _TYPES.get(header.get("elementtype", ""))
    if kind is None or header.get("elementnumberofchannels", "1") != "1":
        raise Unreadable("its voxels are of a type that is not supported: save gray values of 8 to 32 bits")
    stored = content[start:]
    if header["elementdatafile"].upper() != "LOCAL":
        if beside is None or header.get("headersize", "0") != "0":
            raise Unreadable("its voxels are in another file: save it as one .mha")
        stored = beside(header["elementdatafile"])
    shape = tuple(int(value) for value in _numbers(header, "dimsize", 3))
    if min(shape) < 1 or math.prod(shape) * 8 > LARGEST:
        raise Unreadable("its header is damaged, or claims more voxels than any volume has")
    order = ">" if _true(header, "binarydatabyteordermsb", "elementbyteordermsb") else "<"
    dtype = np.dtype(f"{order}{kind}")
    voxels = _voxels(stored, math.prod(shape) * dtype.itemsize, compressed=_true(header, "compresseddata"))
    array = np.frombuffer(voxels, dtype).reshape(shape, order="F")
    affine = _affine(header)
    orientation = io_orientation(affine)
    upright = affine @ inv_ornt_aff(orientation, array.shape)
    array = apply_orientation(array, orientation)
    scaled = partial(_scaled, nan_value=nan_value)
    extremes = [(float(values.min()), float(values.max())) for values in (scaled(plane) for _, plane in planes(array))]
    if not np.isfinite(extremes).all():
        raise Unreadable("it holds values that are not finite numbers")
    labels = array.dtype.kind in "iu" and holds_few_integers(plane for _, plane in planes(array))
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    stored_type = _STORED_TYPES.get(kind, "32-bit integer" if kind[0] in "iu" else "floating-point")
    return Volume(array, scaled, low, high, upright, affine, orientation, stored_type, (), labels)


def _header(content: bytes) -> tuple[dict[str, str], int]:
    """Return the entries, keys in lower case, and where the voxels begin."""
    entries: dict[str, str] = {}
    position = 0
    while "elementdatafile" not in entries:
        end = content.find(b"\n", position, _LONGEST_HEADER)
        if end < 0:
            raise Unreadable("it is not a MetaImage file, or its header is damaged")
        try:
            key, equals, value = content[position:end].decode("ascii").partition("=")
        except UnicodeDecodeError:
            raise Unreadable("it is not a MetaImage file, or its header is damaged") from None
        if equals:
            entries[key.strip().lower()] = value.strip()
        position = end + 1
    return entries, position


def _numbers(header: dict[str, str], key: str, count: int, default: str | None = None) -> list[float]:
    try:
        numbers = [float(word) for word in (header[key] if default is None else header.get(key, default)).split()]
    except (KeyError, ValueError):
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all() or max(map(abs, numbers)) > 1e9:
        raise Unreadable("its header is damaged, or it is no volume of three dimensions")
    return numbers


def _true(header: dict[str, str], *keys: str) -> bool:
    return any(header.get(key, "false").lower() == "true" for key in keys)


def _voxels(content: bytes, size: int, *, compressed: bool) -> bytes:
    if not compressed:
        if len(content) < size:
            raise Unreadable("it is shorter than its header says")
        return content[:size]
    decompressor = zlib.decompressobj()
    try:
        voxels = decompressor.decompress(content, size)
    except zlib.error as error:
        raise Unreadable("its compressed data are damaged or cut off") from error
    if len(voxels) < size:
        raise Unreadable("it is shorter than its header says")
    return voxels


def _affine(header: dict[str, str]) -> np.ndarray:
    """Return the map from voxel indices to millimeters in RAS order."""
    spacing = _numbers(header, "elementspacing", 3)
    offset = next((key for key in ("offset", "position", "origin") if key in header), "offset")
    matrix = next((key for key in ("transformmatrix", "rotation", "orientation") if key in header), "transformmatrix")
    result = np.eye(4)
    # The matrix is written axis by axis: its rows are the directions of the voxels' axes.
    result[:3, :3] = np.reshape(_numbers(header, matrix, 9, "1 0 0 0 1 0 0 0 1"), (3, 3)).T * spacing
    result[:3, 3] = _numbers(header, offset, 3, "0 0 0")
    result = np.diag([-1.0, -1.0, 1.0, 1.0]) @ result
    sizes = voxel_sizes(result)
    if not (sizes > 0).all() or abs(np.linalg.det(result[:3, :3] / sizes)) < _FLATTEST:
        raise Unreadable("its axes do not span space")
    return result


@np.errstate(all="ignore")  # of double precision, beyond that of single precision: infinite values are refused
def _scaled(stored: np.ndarray, *, nan_value: float | None) -> np.ndarray:
    """Return values of stored voxels, float32 ``(1, ...)``."""
    values = stored.astype(np.float32)[None]
    return values if nan_value is None else np.where(np.isnan(values), np.float32(nan_value), values)


def save_metaimage(path: Path, voxels: np.ndarray, affine: np.ndarray, comment: str) -> None:
    """Write a .mha file, compressed.

    Args:
        path: the file.
        voxels: (I, J, K), float32.
        affine: index -> millimeters in RAS order.
        comment: one line of ASCII.
    """
    steps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    sizes = voxel_sizes(affine)
    data = zlib.compress(np.asarray(voxels, "<f4").tobytes(order="F"), level=6)
    entries = {
        "ObjectType": "Image",
        "NDims": "3",
        "Comment": comment,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(data)),
        "TransformMatrix": _texts((steps[:3, :3] / sizes).T.ravel()),  # see _affine
        "Offset": _texts(steps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _texts(sizes),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": "MET_FLOAT",
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{key} = {value}\n" for key, value in entries.items())
    path.write_bytes(header.encode("ascii") + data)


def _texts(numbers: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in numbers)
