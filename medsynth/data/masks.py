"""Masks beside images: files that name themselves masks, and volumes of few integers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

FEW = 32  # values; volumes of integers that hold more are images
_NOUN = r"(labels?|masks?|seg(mentations?)?|segs|gt|ground[_-]?truth|annotations?)"
_FOLDER = re.compile(rf"{_NOUN}(tr|ts|va|_?train(ing)?|_?test(ing)?|_?val)?", re.IGNORECASE)
_STEM = re.compile(rf"(.*[_\-. ])?{_NOUN}([_\-. ]?\d+)?", re.IGNORECASE)
_ENDING = re.compile(r"(\.nii)?\.\w+$", re.IGNORECASE)


def masks_among(names: Iterable[str]) -> list[str]:
    """Return the names of masks: ``labelsTr/1.nii``, ``masks/1.png``, ``1_seg.nii.gz``, ``1_mask_2.png``.

    Empty if all are masks: then these are the images of the set.
    """
    names = list(names)
    masks = [name for name in names if _is_mask(PurePosixPath(name))]
    return masks if len(masks) < len(names) else []


def holds_few_integers(planes: Iterable[np.ndarray]) -> bool:
    """Return whether planes of integers hold FEW different values or fewer; it stops at the first plane with more."""
    found = set[int]()
    for plane in planes:
        found.update(np.unique(plane).tolist())
        if len(found) > FEW:
            return False
    return True


def _is_mask(path: PurePosixPath) -> bool:
    folders = any(_FOLDER.fullmatch(folder) for folder in path.parent.parts)
    return folders or _STEM.fullmatch(_ENDING.sub("", path.name)) is not None
