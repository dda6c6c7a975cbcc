"""DICOM files for tests, written with pydicom: small, anonymous by default, in any transfer syntax."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

STORAGE = {  # the SOP classes of the modalities that tests use
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
    "ENHANCED_CT": "1.2.840.10008.5.1.4.1.1.2.1",
}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def uid(*parts: object) -> str:
    """Return the same UID for the same parts, so that a test's files are the same in each run."""
    return generate_uid(entropy_srcs=[str(part) for part in parts])


def image_dataset(pixels: np.ndarray, *, modality: str = "CT", **elements: Any) -> Dataset:
    """Return a data set of ``pixels``, (H, W), (frames, H, W) or (H, W, 3), with all required elements.

    ``elements`` are DICOM keywords with values that come on top; None removes one.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    color = pixels.ndim == 3 and pixels.shape[-1] == 3
    frames = len(pixels) if pixels.ndim == 3 and not color else 1
    rows, columns = pixels.shape[:2] if color else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    standard = {
        "SOPClassUID": STORAGE.get(modality, STORAGE["OT"]),
        "SOPInstanceUID": uid("instance", pixels.tobytes(), sorted(elements.items(), key=str)),
        "Modality": modality.removeprefix("ENHANCED_"),
        "PatientID": "patient",
        "StudyInstanceUID": uid("study"),
        "SeriesInstanceUID": uid("series"),
        "SamplesPerPixel": 3 if color else 1,
        "PhotometricInterpretation": "RGB" if color else "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": None if "BitsStored" in elements else bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PlanarConfiguration": 0 if color else None,
        "NumberOfFrames": frames if frames > 1 else None,
    }
    if "BitsStored" in elements:
        standard["HighBit"] = elements["BitsStored"] - 1
    for keyword, value in (standard | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    content = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write(path: Path, dataset: Dataset, *, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Save in an uncompressed transfer syntax, or a compressed one of pydicom's encoders, and create folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    big = syntax == "1.2.840.10008.1.2.2"
    if big and dataset.BitsAllocated > 8:
        dataset.PixelData = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}").byteswap().tobytes()
    compressed = syntax not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99") and not big
    if compressed:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not big)
    return path


def write_ct_slice(
    path: Path,
    pixels: np.ndarray,
    *,
    patient_id: str = "patient",
    patient_name: str | None = None,
    birth_date: str | None = None,
    study_uid: str | None = None,
    series_uid: str | None = None,
    series_description: str | None = None,
    instance_number: int | None = None,
    position: float = 0.0,
    modality: str = "CT",
    slope: float | None = 1.0,
    intercept: float | None = -1024.0,
    spacing: tuple[float, float] | None = (0.75, 0.5),
    syntax: str = ExplicitVRLittleEndian,
    **elements: Any,
) -> Path:
    """Write an axial slice of stored values ``pixels`` (H, W) at ``position`` mm on the z axis; None: left out.

    Without UIDs, all slices of a patient belong to one study and one series. ``modality`` may be another one.
    """
    study_uid = study_uid or uid("study", patient_id)
    options = {
        "PatientID": patient_id,
        "PatientName": patient_name,
        "PatientBirthDate": birth_date,
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": series_uid or uid("series", study_uid),
        "SeriesDescription": series_description,
        "InstanceNumber": instance_number,
        "ImagePositionPatient": [-100.0, -100.0, position],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": None if spacing is None else list(spacing),
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
    }
    return write(path, image_dataset(pixels, modality=modality, **(options | elements)), syntax=syntax)


def items(*groups: dict[str, Any]) -> Sequence:
    """Return a DICOM sequence; each group is an item of keywords and values."""
    sequence = []
    for group in groups:
        item = Dataset()
        for keyword, value in group.items():
            setattr(item, keyword, value)
        sequence.append(item)
    return Sequence(sequence)
