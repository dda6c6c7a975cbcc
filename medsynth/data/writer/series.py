"""Writers of translated series, the choices of ``medsynth translate format=...``; they keep the source's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, ornt_transform
from PIL import Image
from torch import Tensor

from medsynth.data.metaimage import save_metaimage
from medsynth.data.nifti import Slices
from medsynth.data.whole_series import DicomPlace, Series, VolumePlace, affine
from medsynth.data.writer.base import as_measured, quantized, to_levels
from medsynth.data.writer.dicom import LEVELS
from medsynth.data.writer.dicom_series import DicomSeries
from medsynth.data.writer.translation import SeriesWriter, Translation
from medsynth.errors import InputError


class NpySeries:
    """A writer of one array (N, C, H, W), float32 in physical units."""

    def __init__(self, path: Path, series: Series, translation: Translation) -> None:
        self.path = path.with_name(f"{path.name}.npy")
        self.stored = as_measured(translation.intensity)
        self._intensity = translation.intensity
        self._count = len(series.slices)
        self._shape: tuple[int, ...] = ()

    def add(self, number: int, image: Tensor) -> None:
        """Append one slice; see SeriesWriter."""
        if not self._shape:
            self._shape = tuple(image.shape)
            header = {"descr": "<f4", "fortran_order": False, "shape": (self._count, *self._shape)}
            with self.path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
        _check_equal(self._shape, tuple(image.shape), "npy")
        with self.path.open("ab") as file:  # see NpyWriter
            file.write(self._intensity.to_physical(image).numpy().astype("<f4").tobytes())

    def close(self) -> None:
        """Do nothing; see SeriesWriter."""


class PngSeries:
    """A writer of a folder of 16-bit gray PNG files: black is the intensity's ``low``, white its ``high``."""

    def __init__(self, path: Path, series: Series, translation: Translation) -> None:
        if translation.channels != 1:
            raise InputError("format=png16 holds gray images only, but the translator makes colors: choose npy.")
        self.path = path
        self.stored = quantized(translation.intensity, LEVELS)
        path.mkdir(parents=True)

    def add(self, number: int, image: Tensor) -> None:
        """Write one file; see SeriesWriter."""
        values = to_levels(image, LEVELS).numpy().astype(np.uint16)
        Image.fromarray(values[0]).save(self.path / f"{number:06d}.png")

    def close(self) -> None:
        """Do nothing; see SeriesWriter."""


class NiftiSeries:
    """A writer of one volume of float32 values in physical units, in the place of the source.

    A volume gets the affine and the order of axes of the source's file; a DICOM series the affine of its slices; a
    single image that of ``medsynth generate``. Colors are a vector (NIfTI-1's intent), as ``NiftiWriter`` writes them.

    Raises:
        InputError: the slices of a DICOM series are not evenly spaced.
    """

    form, suffix = "nifti", ".nii.gz"

    def __init__(self, path: Path, series: Series, translation: Translation) -> None:
        self.path = path.with_name(f"{path.name}{self.suffix}")
        self.stored = as_measured(translation.intensity)
        self._place, self._translation = series.place, translation
        self._spacing = series.slices[0].spacing
        self._slices: list[np.ndarray] = []
        self._affine = np.diag([-(self._spacing or (1, 1))[1], -(self._spacing or (1, 1))[0], 1.0, 1.0])
        if isinstance(self._place, DicomPlace):
            found = None if self._spacing is None else affine(self._place, self._spacing)
            if found is None:
                raise InputError(
                    f"format={self.form} needs slices of known positions at equal distances, which a series of "
                    "data.root= does not have: choose format=dicom."
                )
            self._affine = found

    def add(self, number: int, image: Tensor) -> None:
        """Keep one slice; see SeriesWriter."""
        values = self._translation.intensity.to_physical(image).numpy().astype(np.float32)
        _check_equal(self._slices[0].shape if self._slices else values.shape, values.shape, self.form)
        self._slices.append(values)

    def close(self) -> None:
        """Write the volume; see SeriesWriter."""
        volumes = [self._voxels(np.stack([image[channel] for image in self._slices])) for channel in self._channels]
        place = self._place.volume.file_affine if isinstance(self._place, VolumePlace) else self._affine
        self._save(volumes, place, f"synthetic {self._translation.kind}: {self._translation.made_by}")

    def _save(self, volumes: Sequence[np.ndarray], place: np.ndarray, described: str) -> None:
        """Write the voxels (I, J, K) of each channel."""
        voxels = volumes[0] if len(volumes) == 1 else np.stack(volumes, axis=-1)[:, :, :, None, :]
        image = nibabel.Nifti1Image(voxels, place)
        for set_form in (image.set_qform, image.set_sform):  # readers differ in which of them they use
            set_form(place, code="scanner" if isinstance(self._place, DicomPlace) else "aligned")
        image.header.set_xyzt_units("mm" if self._spacing else "unknown")
        image.header["descrip"] = described.encode()[:79]
        if len(volumes) > 1:
            image.header.set_intent("vector")
        nibabel.save(image, self.path)

    @property
    def _channels(self) -> range:
        return range(self._translation.channels)

    def _voxels(self, slices: np.ndarray) -> np.ndarray:
        """Return slices (N, H, W) in the order of the file's axes (I, J, K)."""
        place = self._place
        if not isinstance(place, VolumePlace):
            return slices.transpose(2, 1, 0)
        upright = np.array([[0, 1], [1, 1], [2, 1]])
        volume = Slices.to_volume(slices, place.axis)
        return apply_orientation(volume, ornt_transform(upright, place.volume.orientation))


class MetaImageSeries(NiftiSeries):
    """A writer of one gray volume as MetaImage (.mha), as ``NiftiSeries`` writes NIfTI.

    Raises:
        InputError: the slices of a DICOM series are not evenly spaced, or the translator makes colors.
    """

    form, suffix = "mha", ".mha"

    def __init__(self, path: Path, series: Series, translation: Translation) -> None:
        if translation.channels != 1:
            raise InputError("format=mha holds gray volumes only, but the translator makes colors: choose nifti.")
        super().__init__(path, series, translation)

    def _save(self, volumes: Sequence[np.ndarray], place: np.ndarray, described: str) -> None:
        save_metaimage(self.path, volumes[0], place, described)


def _check_equal(first: tuple[int, ...], other: tuple[int, ...], form: str) -> None:
    if other != first:
        raise InputError(
            f"format={form} needs slices of one size, and a series of data.root= has {first[1]}x{first[0]} and others: "
            "choose png16 or dicom."
        )


SERIES_WRITERS: dict[str, Callable[[Path, Series, Translation], SeriesWriter]] = {
    "dicom": DicomSeries,
    "nifti": NiftiSeries,
    "mha": MetaImageSeries,
    "png16": PngSeries,
    "npy": NpySeries,
}
