"""Writer of DICOM: Secondary Capture images with values in physical units, marked as synthetic in several elements.

Each image is a single-frame file, which all viewers and readers open (Secondary Capture Image IOD, PS3.3 A.8.1; modules
in C.7 and C.8.6). All images of one call form a study; each class is a series.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds
from torch import Tensor

from medsynth.contracts import Intensity
from medsynth.data.writer.base import FilePerImage, ImageSet, quantized, to_levels

LEVELS = 2**16 - 1  # of gray images; color images have 8 bits
SYNTHETIC = "Synthetic image made by a generative network. Not an examination of a patient, not for diagnosis."


class DicomWriter(FilePerImage):
    """A writer of 16-bit gray images with a map to physical units (Modality LUT, PS3.3 C.11.1), or of 8-bit RGB images.

    Slope and intercept are decimal strings of at most 16 characters (PS3.5 6.2). Stored values are computed with the
    written strings, so that reading them is exact within half of the slope.

    Raises:
        InputError: the images do not have 1 or 3 channels.
    """

    suffix = ".dcm"

    def __init__(self, folder: Path, images: ImageSet) -> None:
        images.check_channels("dicom", 1, 3)
        super().__init__(folder, images)
        self.color = images.shape[1] == 3
        self.stored = quantized(images.intensity, 255 if self.color else LEVELS)
        if not self.color:
            self.stored = rounded(self.stored)
        self.study = generate_uid(prefix=None)
        self.series = [generate_uid(prefix=None) for _ in images.class_names or ("all",)]
        self.now = datetime.datetime.now()

    def write(self, path: Path, number: int, image: Tensor, label: int | None) -> None:
        """Write one file; see FilePerImage."""
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: class names are the user's
        dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(prefix=None)
        self._describe_study(dataset)
        self._describe_series(dataset, label)
        self._describe_image(dataset, number, label)
        self._set_spacing(dataset)
        self._set_pixels(dataset, image)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)

    def _describe_study(self, dataset: Dataset) -> None:
        """Set patient and study. Elements of type 2 must be present even if they are empty."""
        dataset.PatientName, dataset.PatientID = "SYNTHETIC^MEDSYNTH", "SYNTHETIC"
        dataset.PatientBirthDate = dataset.PatientSex = ""
        dataset.StudyInstanceUID, dataset.StudyID = self.study, "SYNTHETIC"
        dataset.StudyDescription = "Synthetic images"
        dataset.ReferringPhysicianName = dataset.AccessionNumber = ""
        # PatientIdentityRemoved and BurnedInAnnotation are left out: there is no patient whose identity was removed,
        # and the network may have memorized writing in its training images.

    def _describe_series(self, dataset: Dataset, label: int | None) -> None:
        dataset.SeriesInstanceUID = self.series[label or 0]
        dataset.SeriesNumber = (label or 0) + 1
        dataset.SeriesDescription = f"Synthetic{self._class(label)}"[:64]  # the longest long string (LO)
        dataset.Modality = self.images.modality or "OT"
        dataset.Laterality = ""  # required if the body part is one of a pair, which is not known
        dataset.Manufacturer, dataset.SoftwareVersions = "medsynth", self.images.version
        dataset.ConversionType = "SYN"  # synthetic image

    def _describe_image(self, dataset: Dataset, number: int, label: int | None) -> None:
        dataset.InstanceNumber = number + 1
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.SyntheticData = "YES"  # PS3.3 C.12.1
        dataset.DerivationDescription = SYNTHETIC
        dataset.ImageComments = f"Synthetic image {number}{self._class(label)}: {self.images.made_by}"
        dataset.LossyImageCompression = "00"
        dataset.PatientOrientation = []
        for kind in ("Study", "Content", "InstanceCreation"):
            setattr(dataset, f"{kind}Date", self.now.strftime("%Y%m%d"))
            setattr(dataset, f"{kind}Time", self.now.strftime("%H%M%S"))

    def _class(self, label: int | None) -> str:
        """Return the class without control characters and backslashes, which a long string cannot hold (PS3.5 6.2)."""
        if label is None:
            return ""
        name = self.images.class_names[label]
        return ", class " + "".join(char if char.isprintable() and char != "\\" else "_" for char in name)

    def _set_spacing(self, dataset: Dataset) -> None:
        if self.images.spacing:
            # The standard's element (Basic Pixel Spacing Calibration Macro, PS3.3 10.7), and the one that software
            # based on GDCM reads in secondary captures.
            spacing = [format_number_as_ds(float(distance)) for distance in self.images.spacing]
            dataset.PixelSpacing = dataset.NominalScannedPixelSpacing = spacing

    def _set_pixels(self, dataset: Dataset, image: Tensor) -> None:
        if self.color:
            values = to_levels(image, 255).permute(1, 2, 0).numpy().astype(np.uint8)
            dataset.set_pixel_data(values, "RGB", 8, generate_instance_uid=False)
            return
        gray_pixels(dataset, image, self.images.intensity, self.stored)


def rounded(stored: dict[str, Any]) -> dict[str, Any]:
    """Return ``Writer.stored`` with slope and intercept as they are written: decimal strings of 16 characters."""
    written = {name: format_number_as_ds(float(stored[name])) for name in ("slope", "intercept")}
    return stored | {name: float(text) for name, text in written.items()}


def gray_pixels(dataset: Dataset, image: Tensor, intensity: Intensity, stored: dict[str, Any]) -> None:
    """Set the pixels of an image (1, H, W) in [-1, 1], 16 bits with the map ``stored``, and a window of its range."""
    slope, intercept = stored["slope"], stored["intercept"]
    physical = intensity.to_physical(image[0]).numpy()
    values = ((physical - intercept) / slope).round().clip(0, LEVELS).astype("<u2")
    dataset.set_pixel_data(values, "MONOCHROME2", 16, generate_instance_uid=False)
    dataset.RescaleSlope, dataset.RescaleIntercept = format_number_as_ds(slope), format_number_as_ds(intercept)
    dataset.RescaleType = "HU" if intensity.unit == "HU" else "US"  # Hounsfield, or unspecified
    # Black at ``low``, white at ``high``, in units after the rescale. The standard's window extends from c - w / 2 to
    # c + w / 2 - 1 (PS3.3 C.11.2.1.2.1).
    dataset.WindowCenter = format_number_as_ds((intensity.low + intensity.high) / 2 + 0.5)
    dataset.WindowWidth = format_number_as_ds(float(intensity.high - intensity.low + 1))
