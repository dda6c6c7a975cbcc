"""Reader of NIfTI volumes (.nii, .nii.gz), cut into slices in radiological convention."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from medsynth.data.errors import DataError, Reason, ReasonKind, Unreadable, check_choice
from medsynth.data.folders import wrapper
from medsynth.data.layout import AUTO, Layout, find_layout, shared_stems
from medsynth.data.masks import masks_among
from medsynth.data.nifti_labels import check_aligned, class_names
from medsynth.data.nifti_volume import Volume, planes
from medsynth.data.other_formats import not_read
from medsynth.data.percentiles import percentiles
from medsynth.data.reading import RawImage, Record, Scan, reader_options
from medsynth.data.tree import Tree, open_tree
from medsynth.data.volume_files import ENDING, read_volume, voxel_files
from medsynth.errors import InputError

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # of a volume in RAS order
NOT_SELECTED = Reason(ReasonKind.NOT_SELECTED, "neither in data.reader.images nor in data.reader.labels")
NO_LABELS = Reason(ReasonKind.UNMATCHED, "image without a label volume")
NO_IMAGE = Reason(ReasonKind.UNMATCHED, "label volume without an image")
MASK_ADVICE = (
    "name the images by data.reader.images (a folder such as imagesTr, or a pattern such as '*_flair') and, if the "
    "masks give the classes, these by data.reader.labels; data.reader.images='*' reads all as images"
)
EMPTY_SLICES = Reason(ReasonKind.NO_CONTENT, "slices without content")


@dataclasses.dataclass
class Nifti:
    """A reader of volumes, NIfTI and MetaImage; conf/data/nifti.yaml describes its options.

    A record is a volume, its raw images are the slices that are kept.

    Slices are shown in radiological convention: axial ones with anterior on top, coronal and sagittal ones with
    superior on top; the patient's left is on the right side of axial and coronal ones, anterior on the left side of
    sagittal ones. Their order is from inferior to superior, posterior to anterior, left to right.

    Slices without content are left out: those where less than ``min_content`` of the pixels exceed the background,
    whose upper limit is p0.5 + 0.1 (p99.5 - p0.5), with the 0.5th and the 99.5th percentile of the whole volume.

    With label volumes, the class of a slice is "background" if none of its voxels is labeled, otherwise its most
    frequent label other than 0, the lowest one of equally frequent labels.

    Raises:
        InputError: an option has an impossible value, or ``root`` cannot be opened.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    axis: str = "axial"
    images: str | None = None
    labels: str | None = None
    label_names: Mapping[int, str] | None = None
    unmatched: str = "raise"
    volume: int | None = None
    min_content: float = 0.05
    nan_value: float | None = None
    patient_level: int | str | None = AUTO
    split_level: int | str | None = AUTO

    def __post_init__(self) -> None:
        check_choice("data.reader.axis", self.axis, ("axial", "coronal", "sagittal"))
        check_choice("data.reader.unmatched", self.unmatched, ("raise", "skip"))
        if self.volume is not None and self.volume < 0:
            raise InputError(f"data.reader.volume={self.volume} is not possible: volumes are counted from 0.")
        if not 0 <= self.min_content < 1:
            raise InputError(
                f"data.reader.min_content={self.min_content} is not possible: choose a fraction of a slice, 0 or more "
                f"and less than 1."
            )
        self.label_names = _label_names(self.label_names)
        self.tree: Tree = open_tree(self.root, example="data=nifti data.root=/path/to/volumes")
        self._volumes = [name for name in self.tree.names if ENDING.search(name)]
        self._wrapper = wrapper(self._volumes)
        self._labels = {} if self.labels is None else self._matching("labels", self.labels, self._volumes)
        others = set(self._volumes) - set(self._labels.values())
        self._images = self._matching("images", self.images or "*", sorted(others))
        self._label_file = {name: self._labels.get(key, "") for key, name in self._images.items()}

    def scan(self) -> Scan:
        """List the volumes by their names alone.

        Raises:
            DataError: there is no volume, or images and labels do not match.
        """
        beside = voxel_files(self.tree.names)
        left_out = not_read(name for name in self.tree.names if not ENDING.search(name) and name not in beside)
        if not self._images:
            others = f"; {'; '.join(f'{reason}: {count}' for reason, count in left_out.items())}" if left_out else ""
            raise DataError(
                f"data.root={self.tree.root} holds no volume (.nii, .nii.gz, .mha, .mhd) that matches "
                f"data.reader.images={self.images or '*'}{others}. Name a folder with volumes, or correct the pattern."
            )
        if masks := masks_among(self._images.values()) if self.images is None else []:
            raise DataError(
                f"data.root={self.tree.root} holds {len(masks)} volumes that name themselves masks (labelsTr, _seg, "
                f"_mask) beside {len(self._images) - len(masks)} others: {MASK_ADVICE}."
            )
        left_out[NOT_SELECTED] = len(self._volumes) - len(self._images) - len(self._labels)
        keys = list(self._images)
        if self.labels is not None:
            keys = [key for key in keys if key in self._labels]
            left_out[NO_LABELS] = len(self._images) - len(keys)
            left_out[NO_IMAGE] = len(self._labels) - len(keys)
            self._check_matched(len(keys))
        selected = {self._images[key] for key in keys}
        volumes = frozenset(self._volumes) | beside
        accounted = volumes - (set(self._images.values()) - selected)  # their loss is NO_LABELS
        names = [self._images[key] for key in keys]
        layout = find_layout(names, root=self.tree.root, patient_level=self.patient_level, split_level=self.split_level)
        patients, origin = self._patients(names, layout)
        return Scan(
            [
                Record(name, patient=patient, split=layout.split(name), series=name)
                for name, patient in zip(names, patients, strict=True)
            ],
            left_out=+left_out,
            accounted=accounted,
            mask_advice=MASK_ADVICE,
            roles=dataclasses.replace(layout.roles, classes="the label volumes", patients=origin),
        )

    def read(self, record: Record) -> tuple[Sequence[RawImage], Counter[Reason]]:
        """Return the slices of one volume, float32 ``(1 or 3, H, W)``, and the number of slices without content.

        Raises:
            Unreadable: it or its label volume is damaged, constant or ambiguous, or the two do not match.
        """
        volume = read_volume(self.tree, record.name, volume=self.volume, nan_value=self.nan_value)
        if volume.low == volume.high:
            raise Unreadable("all its voxels have the same value")
        slices = Slices(volume, AXES[self.axis])
        content = _content(slices.voxels, volume.scaled)
        maps = None if self.labels is None else self._label_maps(record, volume)
        names = [""] * len(slices) if maps is None else class_names(maps, self.label_names)
        kept = np.flatnonzero(content >= self.min_content).tolist()
        mask = volume.labels and self.images is None
        return _Kept(slices, kept, names, maps, mask), +Counter({EMPTY_SLICES: len(slices) - len(kept)})

    def key(self) -> dict[str, Any]:
        """Return all options."""
        return reader_options(self)

    def _patients(self, names: Sequence[str], layout: Layout) -> tuple[list[str], str]:
        """Return the patient of each volume, and the origin in words; a volume takes the place of an unknown one."""
        if self.patient_level is None:
            return [""] * len(names), ""
        if layout.subjects or layout.patient_level:
            return [layout.patient(name) or name for name in names], layout.roles.patients
        stems = {name: ENDING.sub("", name.rpartition("/")[2]) for name in names}
        shared = shared_stems(list(dict.fromkeys(stems.values())))
        origin = "the names of the volumes" + (" up to the last _ or -" if shared else "")
        return [shared.get(stem, stem) for stem in stems.values()], origin

    def _matching(self, option: str, pattern: str, names: Iterable[str]) -> dict[str, str]:
        """Return the files that match a pattern: the text in place of the asterisk -> name."""
        prefix, _, suffix = (pattern if "*" in pattern else pattern.rstrip("/") + "/*").partition("*")
        if "*" in suffix:
            raise InputError(
                f"data.reader.{option}={pattern} is not possible: give a folder, or a pattern with one asterisk."
            )
        stems = {name: ENDING.sub("", name) for name in names}
        if not any(stem.startswith(prefix) for stem in stems.values()):
            prefix = self._wrapper + prefix  # below the folders around all volumes
        fit = [name for name, stem in stems.items() if len(stem) > len(prefix + suffix)]
        fit = [name for name in fit if stems[name].startswith(prefix) and stems[name].endswith(suffix)]
        matching = {stems[name][len(prefix) : len(stems[name]) - len(suffix)]: name for name in fit}
        if len(matching) < len(fit):
            raise DataError(
                f"data.root={self.tree.root} holds {len(fit) - len(matching)} volumes in two formats, such as .nii and "
                f".nii.gz: keep one of each."
            )
        return matching

    def _check_matched(self, matched: int) -> None:
        images, labels = len(self._images) - matched, len(self._labels) - matched
        if not matched or (self.unmatched == "raise" and (images or labels)):
            raise DataError(
                f"data.root={self.tree.root} holds {images} images without a label volume and {labels} label volumes "
                f"without an image, {matched} match: set data.reader.images and data.reader.labels, complete the "
                f"files, or leave those files out with data.reader.unmatched=skip."
            )

    def _label_maps(self, record: Record, image: Volume) -> Slices:
        """Return the slices of the label volume of an image."""
        try:
            labels = read_volume(self.tree, self._label_file[record.name])
        except Unreadable as error:
            raise Unreadable(f"its label volume cannot be read: {error}") from error
        check_aligned(image, labels)
        return Slices(labels, AXES[self.axis])


class Slices(Sequence[np.ndarray]):
    """The slices of a volume along an axis, as displayed, float32 ``(C, H, W)``; each is scaled when it is asked for.

    The volume's indices run to the right, anterior and superior. So both axes of each slice are reversed, and its rows
    are exchanged with its columns.

    Attributes:
        volume: the volume.
        voxels: ``(slices, H, W)`` as they are stored.
        spacing: of rows and columns, in millimeters.
    """

    def __init__(self, volume: Volume, axis: int) -> None:
        self.volume = volume
        self.voxels = np.moveaxis(volume.stored, axis, 0)[:, ::-1, ::-1].swapaxes(-1, -2)
        if min(self.voxels.shape[-2:]) == 1:
            raise Unreadable("it is one pixel wide: it is a single slice along another axis than data.reader.axis")
        column, row = (float(size) for size in np.delete(voxel_sizes(volume.affine), axis))
        self.spacing = row, column

    def __len__(self) -> int:
        return len(self.voxels)

    @staticmethod
    def to_volume(images: np.ndarray, axis: int) -> np.ndarray:
        """Return the voxels (I, J, K) of slices (N, H, W) as displayed: the inverse of cutting a volume."""
        return np.moveaxis(images.swapaxes(-1, -2)[:, ::-1, ::-1], 0, axis)

    def __getitem__(self, number: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.ascontiguousarray(self.volume.scaled(self.voxels[number]))


class _Kept(Sequence[RawImage]):
    """The slices ``numbers`` as raw images, each made when it is asked for: all at once would be another volume."""

    def __init__(
        self, slices: Slices, numbers: Sequence[int], names: Sequence[str], maps: Slices | None, mask: bool
    ) -> None:
        self.slices, self.numbers, self.names, self.maps, self.mask = slices, numbers, names, maps, mask

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> RawImage:  # pyright: ignore[reportIncompatibleMethodOverride]
        number, volume = self.numbers[position], self.slices.volume
        name, labels = self.names[number], None if self.maps is None else self.maps[number][0]
        values, spacing = self.slices[number], self.slices.spacing
        kind, remarks = volume.stored_type, volume.remarks
        return RawImage(values, kind, spacing, name, remarks, mask=self.mask, labels=labels, place=number)


def _content(voxels: np.ndarray, scaled: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the fraction of each slice ``(slices, H, W)`` above the background; colors count by their mean."""

    def grays() -> Iterator[tuple[tuple[int | slice, ...], np.ndarray]]:
        for index, plane in planes(voxels):
            yield index, scaled(plane).mean(axis=0, dtype=np.float32)

    low, high = percentiles(lambda: (gray for _, gray in grays()), voxels.size, (0.5, 99.5))
    above = np.zeros(len(voxels))
    for index, gray in grays():
        inside = gray > low + 0.1 * (high - low)
        above[index[0]] += inside.sum() if isinstance(index[0], int) else inside.sum(axis=1)
    return above / math.prod(voxels.shape[1:])


def _label_names(label_names: Mapping[int, str] | None) -> dict[int, str] | None:
    try:
        return None if label_names is None else {int(label): str(name) for label, name in label_names.items()}
    except (AttributeError, ValueError):
        raise InputError(
            f"data.reader.label_names={label_names} is not possible: give names like {{1: anterior, 2: posterior}}."
        ) from None
