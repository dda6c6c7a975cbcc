"""Files that a reader does not read by their names: images of other formats, and all else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from medsynth.data.errors import NOT_AN_IMAGE_NAME, Reason, ReasonKind

DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_CONVERT = "save them as PNG or TIFF"
_VOLUMES = "convert them to .nii.gz for data=nifti"
_UNPACK = "unpack them"
_SOLUTIONS = {
    "data=dicom reads them": DICOM_ENDINGS,
    "data=nifti reads them": (".nii", ".nii.gz", ".mha", ".mhd"),
    "data=image_folder reads them": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "rename them to .jpg": (".jpe", ".jfif", ".jif", ".pjpeg"),
    "data=medmnist reads one such file of MedMNIST; save others as PNG or TIFF": (".npz",),
    _VOLUMES: (".nrrd", ".nhdr", ".hdr", ".img", ".mgh", ".mgz", ".mnc", ".minc"),
    _CONVERT: (
        *(".gif", ".webp", ".jp2", ".j2k", ".jpf", ".jpx", ".jls", ".jxl", ".heic", ".heif", ".avif", ".tga", ".psd"),
        *(".pgm", ".ppm", ".pbm", ".pnm", ".exr", ".hdf5", ".h5", ".mat", ".npy", ".svs", ".ndpi", ".mrxs", ".czi"),
        *(".lsm", ".oib", ".oif", ".dng", ".raw"),
    ),
    _UNPACK: (".zip", ".tar", ".tgz", ".tar.gz", ".gz", ".7z", ".rar"),
}
_REASONS = {  # ending -> reason; the text holds an ending of this table and nothing of a name
    ending: Reason(ReasonKind.UNSUPPORTED, f"files of a format that is not read here ({ending}: {solution})")
    for solution, endings in _SOLUTIONS.items()
    for ending in endings
}


def reason_not_read(name: str) -> Reason:
    """Return the reason why a file is not read: its format, if its name shows one that holds images."""
    base = name.lower().rpartition("/")[2]
    first, _, last = base.rpartition(".")
    longest = f".{first.rpartition('.')[2]}.{last}" if "." in first else ""
    return _REASONS.get(longest) or _REASONS.get(f".{last}", NOT_AN_IMAGE_NAME)


def not_read(names: Iterable[str]) -> Counter[Reason]:
    """Count files that are not read, by reason."""
    return Counter(map(reason_not_read, names))
