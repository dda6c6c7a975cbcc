"""Writer of NIfTI-1: one slice per file, float32 values in physical units."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from torch import Tensor

from medsynth.data.writer.base import FilePerImage, ImageSet, as_measured


class NiftiWriter(FilePerImage):
    """A writer of gray images of shape ``(W, H, 1)``, or of vectors ``(W, H, 1, 1, C)``, NIfTI-1's colors of float32.

    They are axial slices in radiological convention: columns run from the patient's right to the left, rows from front
    to back, so that viewers show the image unchanged. NIfTI's x grows to the patient's right and its y to the front, so
    both axes are negative.
    """

    suffix = ".nii.gz"

    def __init__(self, folder: Path, images: ImageSet) -> None:
        super().__init__(folder, images)
        self.stored = as_measured(images.intensity)
        row, column = images.spacing or (1.0, 1.0)
        self.affine = np.diag([-column, -row, 1.0, 1.0])  # the distance of slices is not known and set to 1

    def write(self, path: Path, number: int, image: Tensor, label: int | None) -> None:
        """Write one file; see FilePerImage."""
        values = self.images.intensity.to_physical(image).numpy().astype(np.float32)
        values = values.transpose(2, 1, 0)[:, :, None, None, :]
        volume = nibabel.Nifti1Image(values[..., 0, 0] if values.shape[-1] == 1 else values, self.affine)
        for set_form in (volume.set_qform, volume.set_sform):  # readers differ in which of them they use
            set_form(self.affine, code="aligned")
        header = volume.header
        header.set_xyzt_units("mm" if self.images.spacing else "unknown")
        header["descrip"] = f"synthetic image: {self.images.made_by}".encode()[:79]
        header["cal_min"], header["cal_max"] = self.images.intensity.low, self.images.intensity.high
        if values.shape[-1] > 1:
            header.set_intent("vector")
        nibabel.save(volume, path)
