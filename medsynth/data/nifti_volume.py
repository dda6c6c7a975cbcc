"""Decoding of one NIfTI file to a volume in RAS order. Damaged or ambiguous files are refused, nothing is guessed.

The format: R. W. Cox et al., "A (sort of) new image data format standard: NIfTI-1" (2004), and NIfTI-2 (2011). Voxels
are brought to the order right, anterior, superior (RAS) by exchanging and reversing axes, never by resampling. They
stay in memory as they are stored, once: a volume of 1 GiB would take 2 as float32, and as much for each computation.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import logging
import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.volumeutils import apply_read_scaling

from medsynth.data.errors import Unreadable
from medsynth.data.masks import holds_few_integers
from medsynth.data.tree import LARGEST

_HEADERS = {348: Nifti1Header, 540: Nifti2Header}  # by the header's size, its first four bytes
_MILLIMETERS = {"meter": 1000.0, "micron": 0.001}  # everything else is millimeters, unknown units too
# Signed types have another full range, so they have names of their own.
_STORED_TYPES = {"u1": "8-bit", "i1": "signed 8-bit", "u2": "16-bit", "i2": "signed 16-bit"}
_LAST_CODE = 5  # of the codes for the reference of the orientation
_FLATTEST = 1e-3  # smallest volume that three unit axes may span; right angles span 1
_KINDS = {"u": "32-bit integer", "i": "32-bit integer", "f": "floating-point"}  # of all other types
_LABELS = 1002  # the intent code of label volumes
_UNEQUAL = 0.02  # fraction by which voxel sizes of sform and qform may differ
_CONTRADICTION = "have an sform and a qform of different axes or voxel sizes, of which the sform is taken"
_NO_ORIENTATION = "have no orientation in their header and are read in the order of ANALYZE (left, anterior, superior)"

_PIECE = 2**20  # bytes decompressed at a time

_SILENT = logging.Logger("nibabel")  # nibabel would report corrections of headers together with their values
_SILENT.disabled = True


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume in the order right, anterior, superior.

    ``volume[index]`` are the values at a basic index of the three axes, float32 ``(C, ...)``; they are scaled then.

    Attributes:
        stored: voxels ``(I, J, K)`` as they are stored, a view of the file's content.
        scaled: any part of them -> float32 ``(C, ...)``.
        low, high: the lowest and the highest value.
        affine: index -> millimeters.
        file_affine: the same of the file's own order of voxels.
        orientation: of the file's axes, nibabel's (3, 2): the axis of the volume and the direction of each.
        stored_type: see ``RawImage``.
        remarks: see ``RawImage``.
        labels: whether it seems to hold labels: by its intent, or since its values are few integers.
    """

    stored: np.ndarray
    scaled: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float
    affine: np.ndarray
    file_affine: np.ndarray
    orientation: np.ndarray
    stored_type: str
    remarks: tuple[str, ...]
    labels: bool

    def __getitem__(self, index: object) -> np.ndarray:
        return self.scaled(self.stored[index])  # pyright: ignore[reportArgumentType, reportCallIssue]

    def lies_on(self, other: Volume) -> bool:
        """Return whether a volume of the same shape fills the same space, within half a voxel at each corner."""
        corners = np.stack(np.meshgrid(*[(0, extent - 1) for extent in self.stored.shape]), axis=-1)
        distances = apply_affine(self.affine, corners) - apply_affine(other.affine, corners)
        return bool(np.linalg.norm(distances, axis=-1).max() <= voxel_sizes(self.affine).min() / 2)


def planes(stored: np.ndarray) -> Iterator[tuple[tuple[int | slice, ...], np.ndarray]]:
    """Yield all voxels ``(I, J, K)`` in the order of the file, in planes: the index of each, and the plane."""
    slowest = int(np.abs(stored.strides).argmax())
    for number in range(stored.shape[slowest]):
        index = (slice(None),) * slowest + (number,)
        yield index, stored[index]


def load(content: bytes, *, volume: int | None = None, nan_value: float | None = None) -> Volume:
    """Decode a .nii or .nii.gz file, scaled by the header's slope and intercept.

    Args:
        content: of the file.
        volume: number of the volume in a four-dimensional file; None: the file must hold a single one.
        nan_value: replaces NaN; None: NaN is refused.

    Raises:
        Unreadable: the file is damaged, larger than LARGEST, ambiguous, or holds values that are not finite.
    """
    header, voxels = _unpacked(content)
    array = _stored_voxels(header, voxels, volume)
    file_affine = _affine(header)
    orientation = io_orientation(file_affine)
    affine = file_affine @ inv_ornt_aff(orientation, array.shape)
    array = apply_orientation(array, orientation)
    scaled, stored_type, remarks = _colors(array) if array.dtype.names else _scaling(header, array, nan_value)
    extremes = [(values.min(), values.max()) for values in (scaled(plane) for _, plane in planes(array))]
    if not np.isfinite(extremes).all():  # the extremes of values with NaN are NaN
        if nan_value is None and np.isnan(extremes).any():
            raise Unreadable("it holds NaN, for which data.reader.nan_value=0 takes 0")
        raise Unreadable("it holds infinite values: replace them in the file")
    if not header["sform_code"] and not header["qform_code"]:
        remarks = (*remarks, _NO_ORIENTATION)
    if _contradict(header):
        remarks = (*remarks, _CONTRADICTION)
    integers = array.dtype.kind in "iu" and holds_few_integers(plane for _, plane in planes(array))
    labels = integers or int(header["intent_code"]) == _LABELS
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    place = (affine, file_affine, orientation)
    return Volume(array, scaled, float(low), float(high), *place, stored_type, remarks, labels)


def _unpacked(content: bytes) -> tuple[Nifti1Header, memoryview]:
    """Return the header and the decompressed file up to its last voxel; files that claim too much are refused."""
    compressed = content[:2] == b"\x1f\x8b"
    stream = gzip.GzipFile(fileobj=io.BytesIO(content)) if compressed else io.BytesIO(content)
    try:
        header = _header(stream.read(max(_HEADERS)))
        needed = _needed_bytes(header)
        if not compressed:
            voxels = memoryview(content)[:needed]
        else:
            stream.seek(0)
            voxels = _read_into(stream, needed)
            _check_end(stream)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable("its compressed data are damaged or cut off") from error
    if len(voxels) < needed:
        raise Unreadable("it is shorter than its header says")
    return header, voxels


def _read_into(stream: io.BufferedIOBase, size: int) -> memoryview:
    """Return the next ``size`` bytes, or fewer at the end; ``stream.read`` would hold them twice."""
    target, filled = np.empty(size, np.uint8).data, 0
    while filled < size and (count := stream.readinto(target[filled : filled + _PIECE])):
        filled += count
    return target[:filled]


def _check_end(stream: io.BufferedIOBase) -> None:
    """Read to the end, where the checksum is; Unreadable if there is too much before it."""
    surplus = 0
    while more := len(stream.read(_PIECE)):
        surplus += more
        if surplus > LARGEST:
            raise Unreadable(f"it is larger than {LARGEST / 2**30:.0f} GiB once decompressed")


def _header(start: bytes) -> Nifti1Header:
    size = start[:4]
    kind = _HEADERS.get(int.from_bytes(size, "little")) or _HEADERS.get(int.from_bytes(size, "big"))
    if kind is None:
        raise Unreadable("it is not a NIfTI file")
    try:
        header = kind(start[: kind.template_dtype.itemsize], check=False)
        _check_geometry(header)
        header.check_fix(logger=_SILENT, error_level=40)
    except Unreadable:
        raise
    except Exception as error:  # HeaderDataError, WrapStructError for a short one, ValueError, KeyError ...
        raise Unreadable("its header is damaged") from error
    if header["magic"] != kind.single_magic:
        raise Unreadable("its voxels are in another file (.img): convert both to one .nii.gz")
    return header


def _check_geometry(header: Nifti1Header) -> None:
    """Refuse headers that nibabel would correct by a guess: an unknown orientation code, voxels without a size."""
    if not all(0 <= int(header[code]) <= _LAST_CODE for code in ("sform_code", "qform_code")):
        raise Unreadable("its header is damaged")
    dimensions = min(int(header["dim"][0]), 3)
    sizes = np.array(header["pixdim"][1 : dimensions + 1], float)
    if not header["sform_code"] and not (np.isfinite(sizes) & (sizes != 0)).all():
        raise Unreadable("its header gives no voxel size")


def _needed_bytes(header: Nifti1Header) -> int:
    """Return the number of bytes from the start of the file to the last voxel; Unreadable if impossible or too many."""
    try:
        offset, dtype, shape = header.get_data_offset(), header.get_data_dtype(), _shape(header)
    except Exception as error:  # HeaderDataError, OverflowError (an offset of infinity) ...
        raise Unreadable("its header is damaged") from error
    if min(shape) < 1 or offset < header.single_vox_offset:
        raise Unreadable("its header is damaged")
    if dtype.kind == "c":
        raise Unreadable("it holds complex numbers: save their magnitude")
    channels = 3 if dtype.names else 1
    needed = offset + math.prod(shape) * dtype.itemsize
    if max(needed, 4 * channels * math.prod(shape[:3])) > LARGEST:
        raise Unreadable(f"its header claims more than {LARGEST / 2**30:.0f} GiB of voxels")
    return needed


def _shape(header: Nifti1Header) -> tuple[int, ...]:
    """Return the shape with at least three numbers; two-dimensional images are volumes of one slice."""
    shape = tuple(map(int, header.get_data_shape()))
    return shape + (1,) * (3 - len(shape))


def _stored_voxels(header: Nifti1Header, content: memoryview, volume: int | None) -> np.ndarray:
    """Return the stored voxels ``(I, J, K)`` of one volume, in the order of the file."""
    shape, dtype = _shape(header), header.get_data_dtype()
    if any(extent > 1 for extent in shape[4:]):
        raise Unreadable("it has more than four dimensions: save each volume in a file of its own")
    count = math.prod(shape[3:])
    if volume is None and count > 1:
        raise Unreadable("it holds several volumes (four dimensions): choose one by data.reader.volume")
    if volume is not None and volume >= count:
        raise Unreadable("it holds fewer volumes than data.reader.volume asks for, counted from 0")
    offset = header.get_data_offset() + (volume or 0) * math.prod(shape[:3]) * dtype.itemsize
    return np.frombuffer(content, dtype, math.prod(shape[:3]), offset).reshape(shape[:3], order="F")


@np.errstate(all="ignore")
def _affine(header: Nifti1Header) -> np.ndarray:
    """Return the map from voxel indices to millimeters in RAS order; from sform, else qform, else ANALYZE's rule."""
    try:
        affine = np.array(header.get_best_affine(), float)
        affine[:3] *= _MILLIMETERS.get(str(header.get_xyzt_units()[0]), 1.0)
    except Exception as error:  # ValueError (a quaternion longer than 1), KeyError (an unknown unit) ...
        raise Unreadable("its header is damaged") from error
    sizes = voxel_sizes(affine)
    volume = abs(np.linalg.det(affine[:3, :3] / sizes))  # of a cell with edges of length 1: 1 for right angles
    if not (np.isfinite(affine).all() and (sizes > 0).all() and volume > _FLATTEST):
        raise Unreadable("its affine has no inverse: its axes do not span space")
    return affine


def _contradict(header: Nifti1Header) -> bool:
    """Return whether sform and qform, both of a known reference, give a voxel other axes or another size.

    Their positions may differ: an sform often leads to a template. The images are the same then.
    """
    if not (header["sform_code"] and header["qform_code"]):
        return False
    try:
        steps = [np.asarray(affine, float)[:3, :3] for affine in (header.get_sform(), header.get_qform())]
    except Exception:  # a quaternion that is impossible, which is not used
        return True
    sizes = [np.linalg.norm(columns, axis=0) for columns in steps]
    if not all(np.isfinite(size).all() and (size > 0).all() for size in sizes):
        return True
    of_sform, of_qform = (io_orientation(np.pad(columns, (0, 1))) for columns in steps)
    return not np.array_equal(of_sform, of_qform) or bool((np.abs(sizes[0] / sizes[1] - 1) > _UNEQUAL).any())


def _scaling(
    header: Nifti1Header, array: np.ndarray, nan_value: float | None
) -> tuple[Callable[[np.ndarray], np.ndarray], str, tuple[str, ...]]:
    try:
        slope, intercept = header.get_slope_inter()  # None, None: not scaled
    except Exception as error:  # HeaderDataError: an intercept that is not finite
        raise Unreadable("its header is damaged") from error
    plain = (slope, intercept) in ((None, None), (1.0, 0.0))
    stored_type = _STORED_TYPES.get(array.dtype.str[1:], _KINDS[array.dtype.kind])
    scaled = partial(_scaled, slope=slope, intercept=intercept, nan_value=nan_value)
    return scaled, stored_type if plain else "floating-point", ()


@np.errstate(all="ignore")  # overflows and NaN are found by ``load`` and refused
def _scaled(stored: np.ndarray, *, slope: float | None, intercept: float | None, nan_value: float | None) -> np.ndarray:
    """Return the values of stored voxels, float32 ``(1, ...)``."""
    values = apply_read_scaling(stored, slope, intercept).astype(np.float32)[None]
    return values if nan_value is None else np.where(np.isnan(values), np.float32(nan_value), values)


def _colors(array: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], str, tuple[str, ...]]:
    """Return red, green and blue as stored: NIfTI-1 defines no scaling of colors."""
    return _separated, "8-bit", ("lost their alpha channel",) * ("A" in (array.dtype.names or ()))


def _separated(stored: np.ndarray) -> np.ndarray:
    """Return stored colors as float32 ``(3, ...)``."""
    return np.stack([stored[name] for name in "RGB"]).astype(np.float32)
