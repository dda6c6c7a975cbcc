"""Whole series of slices, of which each is to be replaced by another: what is read, and what its place in space is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medsynth.data.dicom.elements import quiet
from medsynth.data.dicom.headers import Header, SlicePosition, frame_position, slice_position
from medsynth.data.dicom.reader import Dicom
from medsynth.data.errors import DataError, Unreadable
from medsynth.data.nifti import AXES, Nifti, Slices
from medsynth.data.nifti_volume import Volume
from medsynth.data.reading import RawImage, Reader
from medsynth.data.synthrad import MODALITIES, SynthRad
from medsynth.data.volume_files import read_volume


@dataclasses.dataclass(frozen=True)
class Series:
    """Slices that belong together, in their order.

    Attributes:
        name: of a file, which may identify a patient.
        slices: each is decoded when it is asked for.
        unit: of the values, "HU" or "stored value".
        modality: DICOM's code; "" where it is not known.
        ordered: whether slices that follow each other are neighbors in space.
        place: what the writer of its own format needs.
    """

    name: str
    slices: Sequence[RawImage]
    unit: str
    modality: str
    ordered: bool
    place: DicomPlace | VolumePlace | None = None


@dataclasses.dataclass(frozen=True)
class VolumePlace:
    """The volume that slices were cut from, and the axis that they are perpendicular to."""

    volume: Volume
    axis: int


class DicomPlace(Sequence[tuple[Dataset, SlicePosition]]):
    """The header, without pixels, and the position of each slice of a series; also its images, decoded when read."""

    def __init__(self, reader: Dicom, files: Sequence[Header]) -> None:
        self._reader = reader
        self._slices = [(header, number) for header in files for number in range(header.frames)]
        self._kept: tuple[str, Any] = ("", None)
        if any(header.frames > 1 for header in files):  # a file may hold frames of other types, which are left out
            counts = {header.name: len(self._file(header)[2]) for header in files}
            self._slices = [(header, number) for header in files for number in range(counts[header.name])]

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, index: int) -> tuple[Dataset, SlicePosition]:  # pyright: ignore[reportIncompatibleMethodOverride]
        header, number = self._slices[index]
        dataset, order, _ = self._file(header)
        with quiet():
            position = slice_position(dataset) if header.frames == 1 else frame_position(dataset, order[number])
        return dataset, position

    def image(self, index: int) -> RawImage:
        """Decode one slice.

        Raises:
            DataError: it is damaged.
        """
        header, number = self._slices[index]
        return self._file(header)[2][number]

    def _file(self, header: Header) -> tuple[Dataset, list[int], list[RawImage]]:
        if self._kept[0] != header.name:
            try:
                self._kept = (header.name, self._reader.slices(header))
            except Unreadable as error:
                raise _unreadable(self._reader, header.name, error) from error
        return self._kept[1]


class _Images(Sequence[RawImage]):
    """Images that are decoded when they are asked for."""

    def __init__(self, count: int, decode: Any) -> None:
        self._count, self._decode = count, decode

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> RawImage:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._decode(index)


def whole_series(reader: Reader) -> Iterator[Series]:
    """Yield the series that a reader finds: those of DICOM, volumes with all slices, other images one by one.

    Raises:
        DataError: there are none, or one is damaged.
    """
    if isinstance(reader, Dicom):
        for files in reader.files_of_series():
            place = DicomPlace(reader, files)
            unit = files[0].unit or "stored value"
            yield Series(files[0].name, _Images(len(place), place.image), unit, files[0].modality, True, place)
    elif isinstance(reader, Nifti):
        for record in reader.scan().records:
            volume = _volume(reader, record.name, volume=reader.volume, nan_value=reader.nan_value)
            yield _volume_series(record.name, volume, AXES[reader.axis], "")
    elif isinstance(reader, SynthRad):
        modality = MODALITIES.get(reader.source.lower(), "")
        for name in reader.sources():
            yield _volume_series(name, _volume(reader, name), AXES[reader.axis], modality)
    else:
        scan = reader.scan()
        for record in scan.records:
            try:
                images = reader.read(record)[0]
            except Unreadable as error:
                raise _unreadable(reader, record.name, error) from error
            for image in images:
                yield Series(record.name, [image], scan.unit, scan.modality, False)


def affine(place: DicomPlace, spacing: tuple[float, float]) -> np.ndarray | None:
    """Return the map from (column, row, slice) to millimeters in RAS order; None: slices are not evenly spaced.

    ImagePositionPatient and ImageOrientationPatient are in LPS order (PS3.3 section C.7.6.2.1.1).
    """
    positions = [position for _, position in place]
    corners = [position.position for position in positions if position.position and position.orientation]
    if len(corners) < len(positions) or len({position.orientation for position in positions}) > 1:
        return None
    across, down = np.array(positions[0].orientation).reshape(2, 3)
    steps = np.diff(np.array(corners), axis=0)
    step = steps.mean(axis=0) if len(steps) else np.cross(across, down)
    if len(steps) and np.abs(steps - step).max() > _UNEVEN * np.linalg.norm(step):
        return None
    result = np.eye(4)
    result[:3] = np.stack([across * spacing[1], down * spacing[0], step, np.array(corners[0])], axis=1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ result


_UNEVEN = 0.02  # fraction by which distances of slices may differ


def _slice(slices: Slices, number: int) -> RawImage:
    return RawImage(slices[number], slices.volume.stored_type, slices.spacing)


def _volume_series(name: str, volume: Volume, axis: int, modality: str) -> Series:
    slices = Slices(volume, axis)
    images = _Images(len(slices), partial(_slice, slices))
    return Series(name, images, "stored value", modality, True, VolumePlace(volume, axis))


def _volume(reader: Nifti | SynthRad, name: str, **options: Any) -> Volume:
    try:
        return read_volume(reader.tree, name, **options)
    except Unreadable as error:
        raise _unreadable(reader, name, error) from error


def _unreadable(reader: Reader, name: str, error: Unreadable) -> DataError:
    number = reader.tree.names.index(name) + 1
    return DataError(
        f"File {number} of the {len(reader.tree.names)} in data.root={reader.tree.root} cannot be read "
        f"({error.reason}): repair or remove it."
    )
