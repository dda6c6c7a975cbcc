"""The roles of the folders that hold images: a given split, classes, patients, or none."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Sequence
from statistics import median

from medsynth.data.errors import DataError
from medsynth.data.folder_names import (
    FEW_IMAGES,
    PATIENT_WORD,
    SEVERAL_FOLDERS,
    consecutive,
    is_split,
    look_like_patients,
    numbered,
    split_name,
)
from medsynth.data.folders import listed
from medsynth.data.reading import Roles
from medsynth.errors import InputError

AUTO = "auto"
Level = int | str | None  # of an option: 1 for the folders in the root, null for none, or auto
FEW_PATIENTS = 5  # beginnings of files' names from which on they may be patients
MOST_KINDS = 12  # of endings of names, such as the sequences of one examination
_SUBJECT = re.compile(r"(?:^|/)sub-([A-Za-z0-9]+)(?=[_/.])")  # of the Brain Imaging Data Structure (BIDS)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The levels of folders with a role, 1 for the folders in the root; 0: no folders have it.

    Attributes:
        split_level: of the folders that are a given split, such as "Training" and "Testing".
        class_level: of the folders that are classes.
        patient_level: of the folders that are patients.
        subjects: patients are the subjects "sub-XX" of the names, as in BIDS.
        doubt: what the folders may be instead, and what to type then; "" where their names leave no doubt.
    """

    split_level: int = 0
    class_level: int = 0
    patient_level: int = 0
    subjects: bool = False
    doubt: str = ""

    def class_name(self, name: str) -> str:
        """Return the class of a file; "" without classes."""
        return _part(name, self.class_level)

    def patient(self, name: str) -> str:
        """Return the patient of a file; "" where it is not known."""
        if self.subjects:
            match = _SUBJECT.search(name)
            return "" if match is None else match[1]
        return _part(name, self.patient_level)

    def split(self, name: str) -> str:
        """Return the given split of a file, "train", "val" or "test"; "" where none is given."""
        return split_name(_part(name, self.split_level))

    @property
    def roles(self) -> Roles:
        """The roles in words."""
        patients = "sub-XX in the names" if self.subjects else _place(self.patient_level)
        return Roles(_place(self.class_level), patients, _place(self.split_level), self.doubt)


def find_layout(
    names: Sequence[str],
    *,
    root: str,
    split_level: Level = AUTO,
    class_level: Level = None,
    patient_level: Level = AUTO,
    classes: Collection[str] = (),
    folders_are_classes: bool = False,
) -> Layout:
    """Find the roles of the folders around files.

    Folders around all files have no role. A given split is a level of which all folders are named like one. The first
    other level holds classes, or patients if its names or numbers look like it; below classes there may be patients.

    Args:
        names: of the files, relative to the root.
        root: for messages.
        split_level: of a given split, instead of the one found; None: there is none.
        class_level: likewise; ``AUTO`` where folders may be classes.
        patient_level: likewise.
        classes: names of folders that are classes.
        folders_are_classes: the first level with a role holds classes, whatever its names are.

    Raises:
        InputError: a level is none, or no image has so many folders.
        DataError: folders like a given split lie beside others.
    """
    folders = [name.split("/")[:-1] for name in names]
    for option, level in (("class", class_level), ("patient", patient_level), ("split", split_level)):
        _check_level(option, level, max(map(len, folders), default=0))
    split_at = _split_level(folders, root, class_level) if split_level == AUTO else int(split_level or 0)
    free = [level for level in _levels(folders) if level != split_at]
    subjects = patient_level == AUTO and all(map(_SUBJECT.search, names))
    if class_level != AUTO:
        found = _with_patients(folders, int(class_level or 0), free, patient_level)
    elif classes or folders_are_classes:
        fitting = [level for level in _all_levels(folders) if classes and set(classes) <= _names(folders, level)]
        around = list(_all_levels(folders))[:1] if folders_are_classes else []
        found = _with_patients(folders, next(iter(fitting or free or around), 0), free, patient_level)
    else:
        found = _classes_or_patients(folders, free, patient_level, subjects)
    return dataclasses.replace(found, split_level=split_at, subjects=subjects)


def shared_stems(stems: Sequence[str], most_kinds: int = MOST_KINDS) -> dict[str, str]:
    """Return stem -> the part before its last "_" or "-", where what follows is a kind, such as a channel or sequence.

    It is one where each occurs with several stems: "case_1_t1", "case_1_t2", "case_2_t1", "case_2_t2". Otherwise the
    result is empty.
    """
    cut = {stem: re.fullmatch(r"(.*[^_-])[_-]+([^_/-]+)", stem) for stem in stems}
    parts = {stem: (match[1], match[2]) for stem, match in cut.items() if match}
    endings, beginnings = Counter(end for _, end in parts.values()), Counter(start for start, _ in parts.values())
    kinds = len(parts) == len(stems) and min(endings.values(), default=0) > 1 and len(endings) <= most_kinds
    return {stem: start for stem, (start, _) in parts.items()} if kinds and max(beginnings.values()) > 1 else {}


def doubt_about_names(names: Sequence[str]) -> str:
    """Return how to type that the beginnings of the files' names are patients; "" if they do not look like it."""
    shared = shared_stems([name.rpartition("/")[2].rpartition(".")[0] for name in names], most_kinds=len(names))
    count = len(set(shared.values()))
    if count < FEW_PATIENTS:
        return ""
    pattern = "\"data.patient_pattern='([^/]+)[_-][^/]*$'\""
    return f"If names begin with the patient, up to the last _ or - ({count} beginnings): {pattern}."


def doubt_about_table(names: Sequence[str], *, has_patients: bool, has_splits: bool) -> str:
    """Return what the folders of a table's files look like where it has no column for that; "" if like nothing.

    The roles of these folders are not guessed, since a table says what it knows.
    """
    folders, sentences = [name.split("/")[:-1] for name in names], []
    split_at = next((level for level in _all_levels(folders) if is_split(_names(folders, level))), 0)
    if split_at and not has_splits:
        sentences.append(
            "Paths of the table name folders of a split, such as train and test, which count for nothing: write train, "
            "val or test of each image into a column split."
        )
    levels = [level for level in _all_levels(folders) if level != split_at]
    if not has_patients and (
        all(map(_SUBJECT.search, names)) or any(look_like_patients(_images(folders, level)) for level in levels)
    ):
        sentences.append(
            "Paths of the table name folders or files like patients, which count for nothing: write the patient of "
            "each image into a column patient, or find it in the path by data.patient_pattern=."
        )
    return " ".join(sentences)


def _classes_or_patients(folders: list[list[str]], free: list[int], patient_level: Level, subjects: bool) -> Layout:
    """Decide by names and numbers of images whether the first level with a role holds classes or patients."""
    if not free:
        return Layout(patient_level=_given(patient_level))
    first, images = free[0], _images(folders, free[0])
    patients_given = patient_level not in (AUTO, None)
    if (subjects and all(name.startswith("sub-") for name in images)) or patient_level == first:
        return Layout(patient_level=first)
    if not patients_given and patient_level is not None and look_like_patients(images):
        certain = all(map(PATIENT_WORD.fullmatch, images))
        below = [level for level in free if level > first]
        doubt = f"If these folders are classes: data.reader.class_level={first}."
        if below:
            doubt += f" If those below them are: data.reader.class_level={below[0]}."
            return Layout(patient_level=first, doubt=doubt)
        return Layout(patient_level=first, doubt="" if certain else doubt)
    return _with_patients(folders, first, free, patient_level)


def _with_patients(folders: list[list[str]], class_level: int, free: list[int], patient_level: Level) -> Layout:
    """Add the level of the patients to that of the classes."""
    if patient_level != AUTO:
        return Layout(class_level=class_level, patient_level=_given(patient_level))
    for level in free:
        if level != class_level and look_like_patients(_images(folders, level)):
            return Layout(class_level=class_level, patient_level=level)
    return Layout(class_level=class_level, doubt=_doubt_about_classes(folders, class_level, free))


def _doubt_about_classes(folders: list[list[str]], class_level: int, free: list[int]) -> str:
    """Return what else classes may be, and folders below them that count for nothing."""
    sentences = []
    if class_level:
        images = _images(folders, class_level)
        small, in_numbers = median(images.values()) < FEW_IMAGES, numbered(list(images))
        if (in_numbers and not consecutive(list(images))) or (len(images) > SEVERAL_FOLDERS and small):
            sentences.append(
                f"If the classes are patients: data.reader.class_level=null data.reader.patient_level={class_level}."
            )
        if any(map(split_name, images)):
            sentences.append("If they are a given split: name one of them train, and another one val or test.")
    below = [level for level in free if level > class_level]
    if below:
        sentences.append(
            f"Folders of level {below[0]} count for nothing; if they are patients: "
            f"data.reader.patient_level={below[0]}."
        )
    return " ".join(sentences)


def _split_level(folders: list[list[str]], root: str, class_level: Level) -> int:
    """Return the first level of which all folders are named like a split; 0: there is none."""
    for level in range(1, min(map(len, folders), default=0) + 1):
        found = {name: split_name(name) for name in _names(folders, level)}
        if level == class_level or not is_split(found):
            continue
        others = sorted(name for name, kind in found.items() if not kind)
        if others:
            splits = sorted(found.keys() - set(others))
            raise DataError(
                f"data.root={root} holds folders of a given split ({listed(splits)}) beside {len(others)} others "
                f"({listed(others, 4)}): move the others elsewhere, or type data.reader.split_level=null if these "
                f"are no splits."
            )
        return level
    return 0


def _levels(folders: list[list[str]]) -> list[int]:
    """Return the levels of which there are several folders, or a folder for some of the files only."""
    wrapping = 0
    while folders and all(len(parts) > wrapping for parts in folders) and len(_names(folders, wrapping + 1)) == 1:
        wrapping += 1
    return [level for level in _all_levels(folders) if level > wrapping and len(_names(folders, level)) > 1] or [
        level for level in _all_levels(folders) if level > wrapping
    ]


def _all_levels(folders: list[list[str]]) -> range:
    return range(1, max(map(len, folders), default=0) + 1)


def _names(folders: list[list[str]], level: int) -> set[str]:
    return {parts[level - 1] for parts in folders if len(parts) >= level}


def _images(folders: list[list[str]], level: int) -> Counter[str]:
    return Counter(parts[level - 1] for parts in folders if len(parts) >= level)


def _given(level: Level) -> int:
    return level if isinstance(level, int) else 0


def _place(level: int) -> str:
    """Return the folders of a level in words; "" for 0."""
    return {0: "", 1: "the folders in data.root"}.get(level, f"the folders of level {level} below data.root")


def _part(name: str, level: int) -> str:
    parts = name.split("/")[:-1]
    return parts[level - 1] if 0 < level <= len(parts) else ""


def _check_level(option: str, level: Level, deepest: int) -> None:
    possible = level is None or level == AUTO or (isinstance(level, int) and not isinstance(level, bool) and level >= 0)
    if not possible or (isinstance(level, int) and level > max(deepest, 1)):
        raise InputError(
            f"data.reader.{option}_level={level} is not possible: auto, null, or the level of the folders, 1 for those "
            f"in data.root, and {deepest} is the deepest."
        )
