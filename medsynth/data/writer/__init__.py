"""Writers of generated images: the choices of ``medsynth generate format=...``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from medsynth.data.writer.base import ImageSet as ImageSet
from medsynth.data.writer.base import Writer as Writer
from medsynth.data.writer.dicom import DicomWriter
from medsynth.data.writer.nifti import NiftiWriter
from medsynth.data.writer.npy import NpyWriter
from medsynth.data.writer.png import PngWriter

WRITERS: dict[str, Callable[[Path, ImageSet], Writer]] = {
    "png8": partial(PngWriter, bits=8),
    "png16": partial(PngWriter, bits=16),
    "nifti": NiftiWriter,
    "dicom": DicomWriter,
    "npy": NpyWriter,
}
