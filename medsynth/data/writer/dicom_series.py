"""The writer of translated DICOM series."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

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

from medsynth.data.whole_series import DicomPlace, Series
from medsynth.data.writer.base import quantized
from medsynth.data.writer.dicom import LEVELS, gray_pixels, rounded
from medsynth.data.writer.translation import Translation
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
                "format=nifti, mha, png16 or npy, or data=dicom."
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
