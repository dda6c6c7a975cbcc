"""Label maps of prepared images: the same geometry as that of the images, and the region with the largest part wins."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from medsynth.data.files import ImageFiles
from medsynth.data.geometry import central
from medsynth.data.reading import RawImage
from medsynth.data.record_reading import content_digest
from medsynth.errors import InputError

MOST_REGIONS = 255


def label_maps(source: ImageFiles, splits: Sequence[str]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Read the label maps of a prepared source's splits from its files.

    Args:
        source: of images that a reader finds with label maps, such as NIfTI volumes with ``data.reader.labels``.
        splits: names.

    Returns:
        The regions' names, and for each split uint8 (N, H, W): 0 is the background, n the n-th region.

    Raises:
        InputError: the images have no label maps, or these have more than 255 regions.
    """
    rows = {split: source.rows[split] for split in splits}
    found = dict(_of_rows(source, {row for own in rows.values() for row in own}))
    if len(found) < sum(map(len, rows.values())):
        raise InputError(
            "The images of this data have no label maps: train on NIfTI volumes with label volumes (data=nifti "
            "data.reader.labels=labelsTr), or on phantoms."
        )
    regions = np.setdiff1d(np.unique(np.concatenate([np.unique(own) for own in found.values()])), [0])
    if not 0 < len(regions) <= MOST_REGIONS:
        raise InputError(f"The label maps have {len(regions)} regions: 1 to {MOST_REGIONS} are possible.")
    given = getattr(source.opened, "label_names", None) or {}
    every = np.concatenate([[0], regions])
    maps = [np.stack([np.searchsorted(every, found[row]) for row in own]).astype(np.uint8) for own in rows.values()]
    return tuple(str(given.get(int(label), int(label))) for label in regions), maps


def _of_rows(source: ImageFiles, rows: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rows with their label maps, with the labels of the files.

    A row is known by its file and the content of its image; of equal images in a file the order tells.
    """
    numbers, digests = source.columns["file_number"], source.columns["digest"]
    rows_of: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(numbers, digests, strict=True)):
        rows_of[key].append(row)
    number_of = {name: number for number, name in enumerate(source.opened.tree.names)}
    wanted = {numbers[row] for row in rows}
    for record in source.opened.scan().records:
        if (number := number_of[record.name]) not in wanted:
            continue
        for raw in source.opened.read(record)[0]:
            of_image = rows_of[number, content_digest(raw.values)]
            row = of_image.pop(0) if of_image else None
            if row in rows and raw.labels is not None:
                yield row, _prepared(source, raw, raw.labels)


def _prepared(source: ImageFiles, raw: RawImage, labels: np.ndarray) -> np.ndarray:
    """Return the label of each pixel of a prepared image (H, W): the one that covers the largest part of it."""
    present = np.setdiff1d(labels, [0]).astype(np.int64)
    covers = []
    for label in present:
        region = dataclasses.replace(raw, foreground=labels == label)
        mask = torch.from_numpy(source.geometry(region)[0][-1])  # from -1, outside, to 1; -inf beyond the border
        covers.append(((central(mask, source.image_size) + 1) / 2).clamp(0, 1).numpy())
    size = source.image_size
    parts = np.stack(covers) if covers else np.zeros((0, size, size), dtype=np.float32)
    background = 1 - parts.sum(axis=0, keepdims=True)
    return np.concatenate([[0], present])[np.concatenate([background, parts]).argmax(axis=0)]
