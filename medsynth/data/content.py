"""The reader that fits a folder, a zip archive or a file: found by endings and first bytes, no image is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from medsynth.data.errors import DataError, Unreadable
from medsynth.data.image_file import ENDINGS
from medsynth.data.other_formats import DICOM_ENDINGS, not_read
from medsynth.data.table import DELIMITERS
from medsynth.data.tree import Tree, open_tree

IMAGES, DICOM, NIFTI, TABLE, MEDMNIST = "image_folder", "dicom", "nifti", "csv", "medmnist"
KINDS = {IMAGES: "images", DICOM: "DICOM files", NIFTI: "volumes", TABLE: "a table of images", MEDMNIST: "MedMNIST"}
_TABLES = (".csv", ".tsv")
_PREAMBLE, _MAGIC = 128, b"DICM"  # DICOM PS3.10 section 7.1
_SAMPLED = 20  # files without a known ending that are opened, to see whether they are DICOM
_HEADER = 4096  # bytes of a table in which its first line ends


def options_for(root: str) -> dict[str, str]:
    """Return the options of ``data=`` that read ``root``: ``{"data": "dicom"}``.

    Raises:
        InputError: ``root`` does not exist, is empty, or holds no format that is read here.
    """
    tree = open_tree(root, example="give a folder of images, DICOM or NIfTI files, or a zip archive of them.")
    counts = _counts(tree)
    if not counts:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in not_read(tree.names).most_common(4))
        raise DataError(f"data.root={root} holds no files that are read here ({reasons}): give another folder.")
    kind = max(counts, key=lambda kind: counts[kind])
    table = _table(tree) if kind == IMAGES else None
    if table is None:
        return {"data": kind}
    return {"data": TABLE} | ({} if table == "table.csv" else {"data.reader.table": table})


def _counts(tree: Tree) -> Counter[str]:
    names = [name.lower() for name in tree.names]
    if names and all(name.endswith(".npy") for name in names):
        return Counter({MEDMNIST: 1} if any(name.endswith("_images.npy") for name in names) else {})
    counts = Counter(kind for kind in map(_kind, names) if kind)
    unknown = [name for name in tree.names if _kind(name.lower()) is None and "." not in PurePosixPath(name).name]
    unknown += [name for name in tree.names if PurePosixPath(name).suffix[1:].isdigit()]  # 1.2.840.113...
    sampled = unknown[:: max(1, len(unknown) // _SAMPLED)][:_SAMPLED]
    if sampled:
        counts[DICOM] += len(unknown) * sum(_is_dicom(tree, name) for name in sampled) // len(sampled)
    return +counts


def _kind(name: str) -> str | None:
    kinds = {IMAGES: ENDINGS, DICOM: DICOM_ENDINGS, NIFTI: (".nii", ".nii.gz", ".mha", ".mhd")}
    return next((kind for kind, endings in kinds.items() if name.endswith(endings)), None)


def _is_dicom(tree: Tree, name: str) -> bool:
    try:
        return tree.head(name, _PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except Unreadable:
        return False


def _table(tree: Tree) -> str | None:
    """Return the name of the one table that lists images of the tree; None: there is none, or several."""
    tables = [name for name in tree.names if name.lower().endswith(_TABLES) and "path" in _columns(tree, name)]
    return tables[0] if len(tables) == 1 else None


def _columns(tree: Tree, name: str) -> Sequence[str]:
    try:
        line = tree.head(name, _HEADER).decode("utf-8-sig", errors="replace").partition("\n")[0]
    except Unreadable:
        return ()
    delimiter = max(DELIMITERS, key=line.count)
    return [column.strip().strip('"') for column in line.split(delimiter)]
