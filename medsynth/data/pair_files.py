"""Decoding of a pair of image files and of the mask of its foreground."""

from __future__ import annotations

import dataclasses

from medsynth.data.errors import Unreadable
from medsynth.data.image_file import decode
from medsynth.data.reading import RawImage, Record
from medsynth.data.tree import Tree

_EQUAL = 0.01  # pixels whose ratios of height and width differ by a smaller fraction are taken for equal


def read_pair(tree: Tree, record: Record) -> RawImage:
    """Decode the source, the target and, where the record names one, the mask of a pair.

    Raises:
        Unreadable: one of them is damaged, or they differ in size.
    """
    source, target = (decode(tree.read(name)) for name in (record.name, record.partner))
    if source.values.shape[1:] != target.values.shape[1:]:
        raise Unreadable("the two images of the pair have different sizes")
    if abs(source.aspect - target.aspect) > _EQUAL * source.aspect:
        raise Unreadable("the pixels of the two images of the pair have different ratios of height and width")
    pair = dataclasses.replace(target, source=source)
    if not record.mask:
        return pair
    mask = decode(tree.read(record.mask)).values
    if mask.shape[1:] != target.values.shape[1:]:
        raise Unreadable("the mask of the pair has another size than its images")
    return dataclasses.replace(pair, foreground=(mask > 0).any(axis=0))
