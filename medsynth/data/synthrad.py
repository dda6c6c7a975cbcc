"""Reader of pairs of volumes for translation, one folder for each case, as in the SynthRAD challenges.

A case is a folder with the volumes ``mr`` or ``cbct``, ``ct`` and ``mask`` (Thummerer et al. 2023, "SynthRAD2023 Grand
Challenge dataset"), NIfTI or MetaImage, on one grid.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from medsynth.data.errors import DataError, Reason, ReasonKind, Unreadable, check_choice
from medsynth.data.layout import AUTO, find_layout
from medsynth.data.nifti import AXES, Slices
from medsynth.data.nifti_volume import Volume
from medsynth.data.other_formats import not_read
from medsynth.data.reading import RawImage, Record, Roles, Scan, reader_options
from medsynth.data.tree import Tree, open_tree
from medsynth.data.volume_files import read_volume, voxel_files

ENDINGS = (".mha", ".mhd", ".nii.gz", ".nii")
MODALITIES = {"ct": "CT", "cbct": "CT", "mr": "MR", "mri": "MR", "pet": "PT"}
INCOMPLETE = Reason(ReasonKind.UNMATCHED, "cases that lack a volume")
OTHER = Reason(ReasonKind.NOT_SELECTED, "volumes of other names")
NO_BODY = Reason(ReasonKind.NO_CONTENT, "slices of which the mask is empty")


@dataclasses.dataclass
class SynthRad:
    """A reader of folders with volumes of equal names; conf/data/synthrad.yaml describes its options.

    A record is a case, its raw images are pairs of slices, in the order and orientation of ``Nifti``. Slices without a
    pixel of the mask are left out.

    Raises:
        InputError: an option has an impossible value, or ``root`` cannot be opened.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    source: str = "mr"
    target: str = "ct"
    mask: str | None = "mask"
    axis: str = "axial"
    unmatched: str = "raise"
    split_level: int | str | None = AUTO

    def __post_init__(self) -> None:
        check_choice("data.reader.axis", self.axis, AXES)
        check_choice("data.reader.unmatched", self.unmatched, ("raise", "skip"))
        self.tree: Tree = open_tree(self.root, example="data=synthrad data.root=/path/to/Task1/brain")

    def sources(self) -> list[str]:
        """Return the names of the volumes to translate, also of cases that have nothing else.

        Raises:
            DataError: there is none.
        """
        names = [name for name in self.tree.names if name.lower().endswith(ENDINGS) and _stem(name) == self.source]
        if not names:
            raise DataError(
                f"data.root={self.tree.root} holds no {self.source} ({', '.join(ENDINGS)}): name the volumes to "
                "translate by data.reader.source=."
            )
        return names

    def scan(self) -> Scan:
        """Find the cases by the names of their files; see ``reading.Reader``.

        Raises:
            DataError: there is no case, or one lacks a volume.
        """
        known = voxel_files(self.tree.names)
        left_out = not_read(n for n in self.tree.names if not n.lower().endswith(ENDINGS) and n not in known)
        wanted = [name for name in (self.source, self.target, self.mask) if name is not None]
        volumes = [name for name in self.tree.names if name.lower().endswith(ENDINGS)]
        cases = _cases(volumes, wanted)
        whole = {folder: files for folder, files in cases.items() if len(files) == len(wanted)}
        missing = len(cases) - len(whole)
        if not whole or (missing and self.unmatched == "raise"):
            raise DataError(
                f"data.root={self.tree.root} holds {missing} cases that lack one of {', '.join(wanted)} "
                f"({', '.join(ENDINGS)}), and {len(whole)} complete ones: complete them, name other volumes by "
                "data.reader.source=, target= and mask=, or leave those cases out with data.reader.unmatched=skip."
            )
        used = {name for files in whole.values() for name in files.values()}
        left_out[INCOMPLETE] = missing
        left_out[OTHER] = len(volumes) - sum(map(len, cases.values()))
        sources = {folder: files[self.source] for folder, files in sorted(whole.items())}
        layout = find_layout(
            list(sources.values()), root=self.tree.root, patient_level=None, split_level=self.split_level
        )
        return Scan(
            [
                Record(
                    name,
                    partner=whole[folder][self.target],
                    mask="" if self.mask is None else whole[folder][self.mask],
                    patient=folder,
                    split=layout.split(name),
                    series=folder,
                )
                for folder, name in sources.items()
            ],
            unit="HU" if MODALITIES.get(self.target.lower()) == "CT" else "stored value",
            modality=MODALITIES.get(self.target.lower(), ""),
            source_modality=MODALITIES.get(self.source.lower(), ""),
            left_out=+left_out,
            paired=True,
            masked=self.mask is not None,
            accounted=frozenset(self.tree.names) - used,
            roles=Roles(patients="the folders of the cases", split=layout.roles.split),
        )

    def read(self, record: Record) -> tuple[Sequence[RawImage], Counter[Reason]]:
        """Return the pairs of slices of a case; see ``reading.Reader``.

        Raises:
            Unreadable: a volume is damaged, or they differ in shape or position.
        """
        names = [name for name in (record.name, record.partner, record.mask) if name]
        volumes = [read_volume(self.tree, name) for name in names]
        for volume in volumes[1:]:
            _check_same_grid(volumes[0], volume)
        cut = [Slices(volume, AXES[self.axis]) for volume in volumes]
        kept = range(len(cut[0]))
        if record.mask:
            kept = [number for number in kept if (cut[2].voxels[number] > 0).any()]
        return _Pairs(cut, kept), +Counter({NO_BODY: len(cut[0]) - len(kept)})

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)


def _cases(volumes: Sequence[str], wanted: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the files of each folder with a wanted volume, by the volume's name."""
    cases: dict[str, dict[str, str]] = {}
    for name in volumes:
        if _stem(name) in wanted:
            cases.setdefault(str(PurePosixPath(name).parent), {})[_stem(name)] = name
    return cases


class _Pairs(Sequence[RawImage]):
    """The pairs of slices ``numbers``, each made when it is asked for."""

    def __init__(self, cut: Sequence[Slices], numbers: Sequence[int]) -> None:
        self.cut, self.numbers = cut, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> RawImage:  # pyright: ignore[reportIncompatibleMethodOverride]
        number, (source, target, *mask) = self.numbers[position], self.cut
        raw, pair = (
            RawImage(side[number], side.volume.stored_type, side.spacing, remarks=side.volume.remarks)
            for side in (source, target)
        )
        foreground = mask[0][number][0] > 0 if mask else None
        return dataclasses.replace(pair, source=raw, foreground=foreground, place=number)


def _stem(name: str) -> str:
    file = PurePosixPath(name).name
    ending = next(ending for ending in ENDINGS if file.lower().endswith(ending))
    return file[: len(file) - len(ending)]


def _check_same_grid(one: Volume, other: Volume) -> None:
    """Raise Unreadable unless both volumes have the same voxels, within half of one at each corner."""
    if one.stored.shape != other.stored.shape:
        raise Unreadable("the volumes of the case have different shapes")
    if not one.lies_on(other):
        raise Unreadable("the volumes of the case lie at different places: resample them to one grid")
