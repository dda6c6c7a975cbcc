"""NIfTI volumes (.nii, .nii.gz) below a folder or in a zip archive, cut into slices as radiologists look at them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from medsynth.contracts import InputError
from medsynth.data.nifti_volume import Volume, load
from medsynth.data.reading import Found, Item, Picture, Unreadable
from medsynth.data.tree import open_tree

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # of a volume in RAS order
BACKGROUND = "background"
_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


class Nifti:
    """A reader of NIfTI volumes; see medsynth.data.reading. An item is a volume, its pictures are the slices kept.

    Slices are shown as radiologists do: axial ones with anterior on top, coronal and sagittal ones with superior on
    top; the patient's left is on the right side of axial and coronal ones, anterior on the left side of sagittal ones.
    They come in the order from inferior to superior, posterior to anterior, left to right.

    A slice without content is left out: one where less than ``min_content`` of the pixels lie above the background,
    which ends at p0.5 + 0.1 (p99.5 - p0.5), with the 0.5th and the 99.5th percentile of the whole volume.

    Where there are label volumes, the class of a slice is "background" if none of its voxels is labeled, else its most
    frequent label other than 0, of equally frequent ones the lowest.

    Args:
        root: the folder or the zip archive.
        axis: axial, coronal or sagittal slices.
        images: where the images are: a folder (``imagesTr``), or a pattern of their names without ending, in which one
            asterisk stands for anything (``*_flair``). None: all volumes that are no label volumes.
        labels: where the label volumes are, likewise; the asterisk stands for the same text in both. None: no labels.
        label_names: label -> name of the class, 0 for the background; None: the number is the name.
        unmatched: ``raise`` or ``skip``, for images without labels and labels without images.
        volume: which one to read of a four-dimensional file, counted from 0.
        min_content: part of a slice, 0 to 1; 0 keeps all slices.
        nan_value: what replaces NaN voxels; None: such volumes cannot be read.

    Raises:
        InputError: an option has no such value, or ``root`` cannot be opened.
    """

    def __init__(
        self,
        root: str | None,
        *,
        axis: str = "axial",
        images: str | None = None,
        labels: str | None = None,
        label_names: Mapping[int, str] | None = None,
        unmatched: str = "raise",
        volume: int | None = None,
        min_content: float = 0.05,
        nan_value: float | None = None,
    ) -> None:
        if axis not in AXES:
            raise InputError(f"data.reader.axis={axis} is not possible: axial, coronal or sagittal.")
        if unmatched not in ("raise", "skip"):
            raise InputError(f"data.reader.unmatched={unmatched} is not possible: raise or skip.")
        if volume is not None and volume < 0:
            raise InputError(f"data.reader.volume={volume} is not possible: volumes are counted from 0.")
        if not 0 <= min_content < 1:
            raise InputError(
                f"data.reader.min_content={min_content} is not possible: 0 to less than 1, part of a slice."
            )
        self.axis = axis
        self.images = images
        self.labels = labels
        self.label_names = _names(label_names)
        self.unmatched = unmatched
        self.volume = volume
        self.min_content = float(min_content)
        self.nan_value = nan_value
        self.tree = open_tree(root, example="data=nifti data.root=/path/to/volumes")
        self._volumes = [name for name in self.tree.names if _ENDING.search(name)]
        self._labels = {} if labels is None else self._matching("labels", labels, self._volumes)
        others = set(self._volumes) - set(self._labels.values())
        self._images = self._matching("images", images or "*", sorted(others))
        self._label_file = {name: self._labels.get(key, "") for key, name in self._images.items()}

    def find(self) -> Found:
        """The volumes, by their names alone.

        Raises:
            InputError: there is none, or images and labels do not belong together.
        """
        if not self._images:
            raise InputError(
                f"data.root={self.tree.root} holds no NIfTI volume (.nii, .nii.gz) that data.reader.images fits."
            )
        left_out = Counter(
            {
                "no image (by the ending of its name)": len(self.tree.names) - len(self._volumes),
                "neither in data.reader.images nor in data.reader.labels": len(self._volumes)
                - len(self._images)
                - len(self._labels),
            }
        )
        keys = list(self._images)
        if self.labels is not None:
            keys = [key for key in keys if key in self._labels]
            left_out["image without a label volume"] = len(self._images) - len(keys)
            left_out["label volume without an image"] = len(self._labels) - len(keys)
            self._check_matched(len(keys))
        return Found([Item(self._images[key]) for key in keys], left_out=+left_out)

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The slices of one volume, float32 ``(1 or 3, H, W)``, and how many have no content.

        Raises:
            Unreadable: it or its label volume is damaged, constant or ambiguous, or the two do not fit.
        """
        volume = load(self.tree.read(item.name), volume=self.volume, nan_value=self.nan_value)
        if volume.values.min() == volume.values.max():
            raise Unreadable("all its voxels have the same value")
        slices, spacing = self._slices(volume)
        kept = _content(slices) >= self.min_content
        names = self._class_names(item, volume) if self.labels is not None else [""] * len(slices)
        pictures = [
            Picture(np.ascontiguousarray(values), volume.stored_type, spacing, name, volume.remarks)
            for values, name, keep in zip(slices, names, kept, strict=True)
            if keep
        ]
        return pictures, +Counter({"slices without content": len(slices) - len(pictures)})

    def key(self) -> dict[str, object]:
        """All options."""
        names = ("axis", "images", "labels", "label_names", "unmatched", "volume", "min_content", "nan_value")
        return {name: getattr(self, name) for name in names}

    def _matching(self, option: str, pattern: str, names: Iterable[str]) -> dict[str, str]:
        """What the asterisk stands for -> the file's name."""
        prefix, _, suffix = (pattern if "*" in pattern else pattern.rstrip("/") + "/*").partition("*")
        if "*" in suffix:
            raise InputError(
                f"data.reader.{option}={pattern} is not possible: a folder, or a pattern with one asterisk."
            )
        stems = {name: _ENDING.sub("", name) for name in names}
        fit = [name for name, stem in stems.items() if len(stem) > len(prefix + suffix)]
        fit = [name for name in fit if stems[name].startswith(prefix) and stems[name].endswith(suffix)]
        found = {stems[name][len(prefix) : len(stems[name]) - len(suffix)]: name for name in fit}
        if len(found) < len(fit):
            raise InputError(
                f"data.root={self.tree.root} holds {len(fit) - len(found)} volumes both as .nii and as .nii.gz: "
                f"keep one of each."
            )
        return found

    def _check_matched(self, matched: int) -> None:
        images, labels = len(self._images) - matched, len(self._labels) - matched
        if not matched or (self.unmatched == "raise" and (images or labels)):
            raise InputError(
                f"data.root={self.tree.root} holds {images} images without a label volume and {labels} label volumes "
                f"without an image, {matched} match: set data.reader.images and data.reader.labels, complete them, "
                f"or leave those out by data.reader.unmatched=skip."
            )

    def _slices(self, volume: Volume) -> tuple[np.ndarray, tuple[float, float]]:
        """``(slices, C, H, W)`` as they are displayed, and the distance of rows and of columns in millimeters.

        Indices run to the right, anterior and superior. So both axes of each slice are turned, and what runs along its
        rows is exchanged with what runs along its columns.
        """
        axis = AXES[self.axis]
        slices = np.moveaxis(volume.values, 1 + axis, 0)[..., ::-1, ::-1].swapaxes(-1, -2)
        if min(slices.shape[-2:]) == 1:
            raise Unreadable("it is one pixel wide: a single slice along another axis than data.reader.axis")
        column, row = (float(size) for size in np.delete(voxel_sizes(volume.affine), axis))
        return slices, (row, column)

    def _class_names(self, item: Item, image: Volume) -> list[str]:
        """One for each slice, by the label volume."""
        try:
            labels = load(self.tree.read(self._label_file[item.name]))
        except Unreadable as error:
            raise Unreadable(f"its label volume cannot be read: {error}") from error
        _check_aligned(image, labels)
        slices = self._slices(labels)[0]
        present = [np.unique(values[values != 0], return_counts=True) for values in slices]
        known = {0} | set(self.label_names or map(int, np.unique(slices)))
        if any(not known.issuperset(values) for values, _ in present):
            raise Unreadable("its label volume holds a label that data.reader.label_names does not name")
        names = {0: BACKGROUND} | {label: str(label) for label in known if label} | (self.label_names or {})
        return [names[int(values[counts.argmax()])] if len(values) else names[0] for values, counts in present]


def _content(slices: np.ndarray) -> np.ndarray:
    """Part of the pixels of each slice ``(slices, C, H, W)`` that lie above the background; colors by their mean."""
    gray = slices.mean(axis=1, dtype=np.float32)
    low, high = np.percentile(gray, (0.5, 99.5))
    return (gray > low + 0.1 * (high - low)).mean(axis=(1, 2))


def _check_aligned(image: Volume, labels: Volume) -> None:
    """Raise Unreadable unless both fill the same space, within half a voxel at each corner."""
    if len(labels.values) != 1 or (labels.values % 1).any():
        raise Unreadable("its label volume holds values that are no integers")
    if image.values.shape[1:] != labels.values.shape[1:]:
        raise Unreadable("its label volume has another shape")
    corners = np.stack(np.meshgrid(*[(0, extent - 1) for extent in image.values.shape[1:]]), axis=-1)
    distances = apply_affine(image.affine, corners) - apply_affine(labels.affine, corners)
    if np.linalg.norm(distances, axis=-1).max() > voxel_sizes(image.affine).min() / 2:
        raise Unreadable("its label volume lies elsewhere in space")


def _names(label_names: Mapping[int, str] | None) -> dict[int, str] | None:
    try:
        return None if label_names is None else {int(label): str(name) for label, name in label_names.items()}
    except (AttributeError, ValueError):
        raise InputError(
            f"data.reader.label_names={label_names} is not possible: labels and names, {{1: anterior, 2: posterior}}."
        ) from None
