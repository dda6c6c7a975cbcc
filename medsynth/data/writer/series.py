"""Writers of translated series, the choices of ``medsynth translate format=...``; they keep the source's place."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, ornt_transform
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds
from torch import Tensor

from medsynth.contracts import Intensity
from medsynth.data.nifti import Slices
from medsynth.data.whole_series import DicomPlace, NiftiPlace, Series, affine
from medsynth.data.writer.base import as_measured, quantized, to_levels
from medsynth.data.writer.dicom import LEVELS, gray_pixels, rounded
from medsynth.errors import InputError

SYNTHETIC = "Synthetic image: translated from another one by a neural network. Not acquired, not for diagnosis."
# What a translated file keeps of its source; the standard's modules Patient and General Study (PS3.3 C.7.1.1, C.7.2.1).
_IDENTITY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"),
    *("StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
)
# Frame of Reference, Image Plane and what tells the place (PS3.3 C.7.4.1, C.7.6.2); FrameOfReferenceUID is of both.
_PLACE = (
    *("PositionReferenceIndicator", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "SliceLocation"),
    *("PatientPosition", "PatientOrientation", "BodyPartExamined", "Laterality", "ImageLaterality"),
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing"),
)
_STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}


@dataclasses.dataclass(frozen=True)
class Translation:
    """The properties that all slices of a translated series share.

    Attributes:
        intensity: the way from [-1, 1] to physical units.
        modality: DICOM's code of the targets that the translator was trained on; "" where it is not known.
        channels: of the slices.
        made_by: the origin, as one phrase that fits into any header.
        identity: whether files tell the patient and the study of the source.
        kind: what is shown, such as "translation" or "standard deviation of 5 samples".
        number: of the series among those of one source.
        uids: UID of the source -> UID in its place, the same for the same; for files without an identity.
    """

    intensity: Intensity
    modality: str
    channels: int
    made_by: str
    identity: bool
    kind: str
    number: int
    uids: Callable[[str], str]


def new_uids() -> Callable[[str], str]:
    """Return a map from UIDs to new ones, the same for the same."""
    return functools.cache(lambda original: generate_uid(prefix=None))


class SeriesWriter(Protocol):
    """A writer of one series, made with a path without an ending, the source and the translation.

    Attributes:
        path: the file or folder that is written.
        stored: see ``data.writer.base.Writer``.
    """

    path: Path
    stored: dict[str, Any]

    def add(self, number: int, image: Tensor) -> None:
        """Write slice ``number``, float64 (C, H, W) in [-1, 1]; slices come in the order of their numbers."""

    def close(self) -> None:
        """Write what is about all slices, after the last one."""


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

    def __init__(self, path: Path, series: Series, translation: Translation) -> None:
        self.path = path.with_name(f"{path.name}.nii.gz")
        self.stored = as_measured(translation.intensity)
        self._place, self._translation = series.place, translation
        self._spacing = series.slices[0].spacing
        self._slices: list[np.ndarray] = []
        self._affine = np.diag([-(self._spacing or (1, 1))[1], -(self._spacing or (1, 1))[0], 1.0, 1.0])
        if isinstance(self._place, DicomPlace):
            found = None if self._spacing is None else affine(self._place, self._spacing)
            if found is None:
                raise InputError(
                    "format=nifti needs slices of known positions at equal distances, which a series of data.root= "
                    "does not have: choose format=dicom."
                )
            self._affine = found

    def add(self, number: int, image: Tensor) -> None:
        """Keep one slice; see SeriesWriter."""
        values = self._translation.intensity.to_physical(image).numpy().astype(np.float32)
        _check_equal(self._slices[0].shape if self._slices else values.shape, values.shape, "nifti")
        self._slices.append(values)

    def close(self) -> None:
        """Write the volume; see SeriesWriter."""
        volumes = [self._voxels(np.stack([image[channel] for image in self._slices])) for channel in self._channels]
        voxels = volumes[0] if len(volumes) == 1 else np.stack(volumes, axis=-1)[:, :, :, None, :]
        place = self._place.volume.file_affine if isinstance(self._place, NiftiPlace) else self._affine
        image = nibabel.Nifti1Image(voxels, place)
        for set_form in (image.set_qform, image.set_sform):  # readers differ in which of them they use
            set_form(place, code="scanner" if isinstance(self._place, DicomPlace) else "aligned")
        image.header.set_xyzt_units("mm" if self._spacing else "unknown")
        image.header["descrip"] = f"synthetic {self._translation.kind}: {self._translation.made_by}".encode()[:79]
        if len(volumes) > 1:
            image.header.set_intent("vector")
        nibabel.save(image, self.path)

    @property
    def _channels(self) -> range:
        return range(self._translation.channels)

    def _voxels(self, slices: np.ndarray) -> np.ndarray:
        """Return slices (N, H, W) in the order of the file's axes (I, J, K)."""
        place = self._place
        if not isinstance(place, NiftiPlace):
            return slices.transpose(2, 1, 0)
        upright = np.array([[0, 1], [1, 1], [2, 1]])
        volume = Slices.to_volume(slices, place.axis)
        return apply_orientation(volume, ornt_transform(upright, place.volume.orientation))


class DicomSeries:
    """A writer of one file for each slice of a DICOM series, in a series of its own in the source's frame of reference.

    Values are 16-bit integers with a map to physical units. Files are of the storage class of CT or MR, so that viewers
    and planning systems take them for a series of slices, and say in ImageType, SyntheticData (PS3.3 C.12.1),
    DerivationDescription and SeriesDescription that they are derived and synthetic.

    Raises:
        InputError: the source is not DICOM, or the translator makes colors.
    """

    def __init__(self, path: Path, series: Series, translation: Translation) -> None:
        if not isinstance(series.place, DicomPlace):
            raise InputError(
                "format=dicom keeps the place of DICOM series, and the files in data.root= are none: choose "
                "format=nifti, png16 or npy, or data=dicom."
            )
        if translation.channels != 1:
            raise InputError("format=dicom holds gray slices only, but the translator makes colors: choose npy.")
        self.path = path
        self._place, self._translation = series.place, translation
        self.stored = rounded(quantized(translation.intensity, LEVELS))
        self._modality = translation.modality or series.modality or "OT"
        self._uid = generate_uid(prefix=None)
        self._now = datetime.datetime.now()
        path.mkdir(parents=True)

    def add(self, number: int, image: Tensor) -> None:
        """Write one file; see SeriesWriter."""
        source, position = self._place[number]
        dataset = Dataset()
        dataset.SpecificCharacterSet = source.get("SpecificCharacterSet", "ISO_IR 192")
        dataset.SOPClassUID = _STORAGE.get(self._modality, SecondaryCaptureImageStorage)
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        self._describe_patient(dataset, source)
        self._describe_series(dataset, source)
        self._describe_place(dataset, source, number)
        if position.position and position.orientation:
            dataset.ImagePositionPatient = [format_number_as_ds(float(value)) for value in position.position]
            dataset.ImageOrientationPatient = [format_number_as_ds(float(value)) for value in position.orientation]
        self._describe_image(dataset, source)
        gray_pixels(dataset, image, self._translation.intensity, self.stored)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(self.path / f"{number:06d}.dcm", enforce_file_format=True)

    def close(self) -> None:
        """Do nothing; see SeriesWriter."""

    def _describe_patient(self, dataset: Dataset, source: Dataset) -> None:
        """Set patient and study; elements of type 2 must be present even if they are empty."""
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(dataset, keyword, "")
        dataset.StudyID = dataset.ReferringPhysicianName = dataset.AccessionNumber = ""
        if self._translation.identity:
            _copy(source, dataset, _IDENTITY)
            return
        dataset.PatientName, dataset.PatientID = "SYNTHETIC^MEDSYNTH", "SYNTHETIC"
        dataset.StudyID = "SYNTHETIC"
        dataset.StudyInstanceUID = self._translation.uids(f"study {source.get('StudyInstanceUID', '')}")

    def _describe_series(self, dataset: Dataset, source: Dataset) -> None:
        dataset.Modality = self._modality
        dataset.SeriesInstanceUID = self._uid
        dataset.SeriesNumber = 1000 + self._translation.number
        dataset.SeriesDescription = f"Synthetic {self._translation.kind}"[:64]  # the longest long string (LO)
        dataset.Manufacturer, dataset.SoftwareVersions = "medsynth", self._translation.made_by.split(",")[0][:64]
        frame = source.get("FrameOfReferenceUID")
        if frame:
            dataset.FrameOfReferenceUID = frame if self._translation.identity else self._translation.uids(str(frame))
        dataset.PositionReferenceIndicator = ""

    def _describe_place(self, dataset: Dataset, source: Dataset, number: int) -> None:
        dataset.Laterality = ""
        dataset.SliceThickness = None
        _copy(source, dataset, _PLACE)
        dataset.InstanceNumber = number + 1
        spacing = self._place.image(number).spacing
        if "PixelSpacing" not in dataset and spacing is not None:  # of an enhanced file it is in a functional group
            dataset.PixelSpacing = [format_number_as_ds(float(distance)) for distance in spacing]

    def _describe_image(self, dataset: Dataset, source: Dataset) -> None:
        axial = {"CT": ["AXIAL"], "MR": ["OTHER"]}.get(self._modality, [])
        dataset.ImageType = ["DERIVED", "SECONDARY", *axial]
        dataset.SyntheticData = "YES"
        dataset.DerivationDescription = SYNTHETIC
        dataset.ImageComments = f"Synthetic {self._translation.kind}: {self._translation.made_by}"
        dataset.LossyImageCompression = "00"
        dataset.AcquisitionNumber = None
        if self._modality == "CT":
            dataset.KVP = None
        elif self._modality == "MR":
            # No sequence made these values: research mode, no variant (PS3.3 C.8.3.1).
            dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "RM", "NONE", ""
            dataset.MRAcquisitionType, dataset.EchoTime, dataset.EchoTrainLength = "", None, None
        else:
            dataset.ConversionType = "SYN"
        for kind in ("Series", "Content", "InstanceCreation"):
            setattr(dataset, f"{kind}Date", self._now.strftime("%Y%m%d"))
            setattr(dataset, f"{kind}Time", self._now.strftime("%H%M%S"))
        if self._translation.identity and source.get("SOPInstanceUID"):
            reference = Dataset()
            reference.ReferencedSOPClassUID = source.get("SOPClassUID")
            reference.ReferencedSOPInstanceUID = source.get("SOPInstanceUID")
            dataset.SourceImageSequence = [reference]


def _copy(source: Dataset, dataset: Dataset, keywords: Sequence[str]) -> None:
    """Copy the elements that the source has."""
    for keyword in keywords:
        if keyword in source:
            dataset[keyword] = source[keyword]


def _check_equal(first: tuple[int, ...], other: tuple[int, ...], form: str) -> None:
    if other != first:
        raise InputError(
            f"format={form} needs slices of one size, and a series of data.root= has {first[1]}x{first[0]} and others: "
            "choose png16 or dicom."
        )


SERIES_WRITERS: dict[str, Callable[[Path, Series, Translation], SeriesWriter]] = {
    "dicom": DicomSeries,
    "nifti": NiftiSeries,
    "png16": PngSeries,
    "npy": NpySeries,
}
