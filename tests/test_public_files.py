"""All public files that installed packages bring, against the arithmetic of the library that brings them.

Each file is read like by the library, or refused for a reason that is listed here; ``pytest -s`` shows the counts.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import skimage
import skimage.io
from nibabel.orientations import io_orientation
from pydicom.pixels import apply_color_lut, apply_rescale

from medsynth.data.dicom import Dicom
from medsynth.data.dicom.headers import read_header
from medsynth.data.errors import ReasonKind, Unreadable
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.nifti_volume import load
from medsynth.data.reading import Record

PACKAGES = {module.__name__: Path(module.__file__).parent for module in (pydicom, nibabel, skimage)}
LOSSY = 3  # gray values by which decoders of lossy streams, or conversions of color, may differ


def outcome_of_dicom(folder: Path, name: str) -> str:
    """Return "same" if a file's frames are as pydicom computes them, otherwise why it is not read."""
    reader = Dicom(str(folder))
    try:
        read_header(reader.tree, name)
        images, left_out = reader.read(Record(name))
    except Unreadable as error:
        return "not an image" if error.reason.kind is ReasonKind.NOT_AN_IMAGE else str(error)
    dataset = pydicom.dcmread(folder / name, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" + (".1" if not dataset.original_encoding[0] else "")
    pixels = dataset.pixel_array
    measured = pixels != dataset.get("PixelPaddingValue", np.nan)  # what is padding is set to the lowest value
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)[..., :3]
    elif dataset.get("SamplesPerPixel", 1) == 1:
        pixels = apply_rescale(pixels, dataset) if float(dataset.get("RescaleSlope", 1)) else pixels
    count = int(dataset.get("NumberOfFrames") or 1)
    if count == 1:
        pixels, measured = pixels[None], measured[None]
    frames = pixels[..., None] if pixels.ndim == 3 else pixels
    assert len(images) + sum(left_out.values()) == len(frames) == count, name
    lossy = dataset.file_meta.TransferSyntaxUID.is_compressed or "YBR" in dataset.PhotometricInterpretation
    for image, frame, own in zip(images, frames, measured, strict=True):
        values = image.values.transpose(1, 2, 0)
        np.testing.assert_allclose(values[own], frame[own], rtol=1e-6, atol=LOSSY * lossy, err_msg=name)
    return "same"


def outcome_of_nifti(folder: Path, name: str) -> str:
    """Return "same" if a file's first volume is as nibabel computes it, otherwise why it is not read."""
    path = folder / name
    try:
        volume = load(path.read_bytes(), volume=0)
    except Unreadable as error:
        return str(error)
    image = nibabel.load(path)
    expected = image.as_reoriented(io_orientation(image.affine)).get_fdata(dtype=np.float32)
    expected = expected.reshape(*expected.shape[:3], -1)[..., 0]
    np.testing.assert_allclose(volume[...][0], expected, rtol=1e-6, err_msg=name)
    return "same"


def outcome_of_picture(folder: Path, name: str) -> str:
    """Return "same" if a picture is as imageio and tifffile read it for scikit-image."""
    try:
        picture = decode((folder / name).read_bytes())
    except Unreadable as error:
        return str(error)
    expected = skimage.io.imread(folder / name)
    expected = expected * 255 if expected.dtype == bool else expected
    if any("several pages" in remark for remark in picture.remarks):
        expected = expected[0]
    expected = expected[..., None] if expected.ndim == 2 else expected[..., :3]
    lossy = name.endswith(".jpg")
    np.testing.assert_allclose(picture.values.transpose(1, 2, 0), expected, atol=LOSSY * lossy, err_msg=name)
    return "same"


# package, endings of its files, how one is compared, least number that is the same, reasons why others are not read
CASES = {
    "DICOM files of pydicom": ("pydicom", None, outcome_of_dicom, 78),
    "DICOM files of nibabel": ("nibabel", (".dcm",), outcome_of_dicom, 5),
    "NIfTI files of nibabel": ("nibabel", (".nii", ".nii.gz"), outcome_of_nifti, 6),
    "pictures of scikit-image": ("skimage", ENDINGS, outcome_of_picture, 25),
}
REFUSED = {
    "not an image",
    "an image without pixel data",  # headers alone, for pydicom's tests of DICOMDIR
    "its pixel data is shorter than its header says",  # MR_truncated.dcm
    "its Rows is missing or impossible",
    "its pixel data is damaged",  # JPEG2000-embedded-sequence-delimiter.dcm, which no decoder reads
    "it is named like a DICOM file and is none, or empty",  # no_meta.dcm
    "files of a format that is not read here (.gz: unpack them)",
    "it has more than four dimensions: save each volume in a file of its own",  # CIFTI
    "it holds NaN, for which data.reader.nan_value=0 takes 0",
    "it has several channels of 16 bits, of which only 8 can be read: save it as 16-bit gray or 8-bit color",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_public_files_are_read_as_their_library_reads_them(case, capsys):
    package, endings, outcome_of, least = CASES[case]
    folder = PACKAGES[package]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if endings is None:
        files = [path for path in files if path.is_relative_to(folder / "data" / "test_files")]
    else:
        files = [path for path in files if path.name.endswith(endings)]
    outcomes = Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files:
            outcomes[outcome_of(path.parent, path.name)] += 1
    with capsys.disabled():
        print(
            f"\n{case}: {len(files)} files: " + ", ".join(f"{text}: {count}" for text, count in outcomes.most_common())
        )
    others = set(outcomes) - REFUSED - {"same"}
    refused = {text for text in others if not ("needs a decoder" in text or "TIFF tags are not supported" in text)}
    assert not refused
    assert outcomes["same"] >= least
