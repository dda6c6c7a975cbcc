"""Volumes by the names of their files: NIfTI, and MetaImage with its voxels in the file (.mha) or beside it (.mhd)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import PurePosixPath

from medsynth.data.errors import Unreadable
from medsynth.data.metaimage import load_metaimage
from medsynth.data.nifti_volume import Volume, load
from medsynth.data.tree import Tree

ENDING = re.compile(r"\.(nii(\.gz)?|mha|mhd)$", re.IGNORECASE)
_METAIMAGE = (".mha", ".mhd")
_VOXELS = re.compile(r"\.z?raw$", re.IGNORECASE)  # of a .mhd file


def read_volume(tree: Tree, name: str, *, volume: int | None = None, nan_value: float | None = None) -> Volume:
    """Read and decode one volume; see ``nifti_volume.load`` for the options.

    Raises:
        Unreadable: the file, or that with its voxels, is gone, damaged, ambiguous or too large.
    """
    content = tree.read(name)
    if not name.lower().endswith(_METAIMAGE):
        return load(content, volume=volume, nan_value=nan_value)
    if volume:
        raise Unreadable("it holds fewer volumes than data.reader.volume asks for, counted from 0")
    return load_metaimage(content, beside=partial(_beside, tree, name), nan_value=nan_value)


def voxel_files(names: Iterable[str]) -> set[str]:
    """Return the names of the files that hold the voxels of .mhd files of the same name."""
    known = set(names)
    headers = {name[: -len(".mhd")] for name in known if name.lower().endswith(".mhd")}
    return {name for name in known if _VOXELS.search(name) and _VOXELS.sub("", name) in headers}


def _beside(tree: Tree, name: str, file: str) -> bytes:
    """Return the content of a file in the folder of ``name``."""
    found = str(PurePosixPath(name).parent / file)
    if found not in tree.names:  # nor anything outside of it
        raise Unreadable("its voxels are in another file, which is not beside it: save it as one .mha")
    return tree.read(found)
