"""The names of folders that look like patients, classes, or the training images and others of a given split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from statistics import median

MANY_FOLDERS = 20  # from which on small folders, or folders with numbered names, are patients and no classes
SEVERAL_FOLDERS = 8  # from which on folders whose names differ in a number alone are patients
FEW_IMAGES = 20  # the median of the images in a folder below which it is small
_LONG_NUMBER = 3  # digits of a number at the end of a name that make it one of a patient
_SPLIT = re.compile(
    r"(?:images?[ _-]?)?(?:(?P<train>train|training|tr)|(?P<val>val|valid|validation|dev)|(?P<test>test|testing|ts))"
    r"(?:[ _-]?(?:sets?|data|images?|split))?",
    re.IGNORECASE,
)
_SHORT_SPLITS = ("tr", "ts")  # mean a split as imagesTr does, but not alone
PATIENT_WORD = re.compile(
    r"(?:patients?|patid|pat|pt|subjects?|subj|sub|cases?|participants?|volunteers?)[-_ .]?\w*\d[\w-]*", re.IGNORECASE
)
_CLASS_WORD = re.compile(
    r"(?:class|grade|stage|type|level|label|category|cat|group|score|bi-?rads|kl|cluster|tier)[-_ .]?\d+", re.IGNORECASE
)


def split_name(folder: str) -> str:
    """Return "train", "val" or "test" for the name of a folder with such images, else ""."""
    match = None if folder.lower() in _SHORT_SPLITS else _SPLIT.fullmatch(folder)
    return "" if match is None else str(match.lastgroup)


def is_split(folders: Collection[str]) -> bool:
    """Return whether some of these folders are named like the splits of a set: training images, and others."""
    kinds = set(map(split_name, folders)) - {""}
    return "train" in kinds and len(kinds) > 1


def look_like_patients(images: Counter[str]) -> bool:
    """Return whether folders with these names and numbers of images are one for each patient."""
    names = list(images)
    if len(names) < 2 or all(map(_CLASS_WORD.fullmatch, names)):
        return False
    if all(map(PATIENT_WORD.fullmatch, names)):
        return True
    many, small = len(names) > MANY_FOLDERS, median(images.values()) < FEW_IMAGES
    if numbered(names):
        long = all(len(name) - len(name.rstrip("0123456789")) >= _LONG_NUMBER for name in names)
        return long or (many and small) or (len(names) > SEVERAL_FOLDERS and not consecutive(names))
    with_digits = sum(any(map(str.isdigit, name)) for name in names)
    return many and (small or with_digits > 0.9 * len(names))


def numbered(names: Sequence[str]) -> bool:
    """Return whether names differ in numbers alone."""
    forms = {re.sub("[0-9]+", "0", name) for name in names}
    return len(forms) == 1 and "0" in forms.pop()


def consecutive(names: Sequence[str]) -> bool:
    """Return whether names are the numbers from 0 or 1 on, as of digits and grades."""
    numbers = sorted(int(name) for name in names if name.isdecimal() and name.isascii())
    return len(numbers) == len(names) and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[-1] + 1))
