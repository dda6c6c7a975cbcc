"""The prepared images that are used, their duplicates, and the splits that hold some of them out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from medsynth.data.blocks import ORDERED_BY, Blocks, slice_order
from medsynth.data.cache import Store
from medsynth.data.duplicates import clusters, have_content
from medsynth.data.groups import Groups, image_groups
from medsynth.data.split import SplitOptions, choose_test_fraction, split, split_by_blocks

_CHUNK = 256  # images read at a time


class KeptImages:
    """The images of a store that are used: all, or one of each exact copy; each is in one split at the most.

    Args:
        store: the prepared images.
        splits: how images are held out.
        names: of all files, by which slices are sorted where nothing else tells their order.
    """

    def __init__(self, store: Store, splits: SplitOptions, names: Sequence[str]) -> None:
        self.store = store
        self.splits = splits
        self.names = names

    @cached_property
    def kept(self) -> list[int]:
        """Their rows of the store."""
        if not self.splits.drop_duplicates:
            return list(range(len(self.store)))
        first = {digest: row for row, digest in reversed(list(enumerate(self.store.columns["digest"])))}
        return sorted(first.values())

    def column(self, name: str) -> list[Any]:
        """Return a column of the store, of the images that are used."""
        column = self.store.columns[name]
        return [column[row] for row in self.kept] if self.splits.drop_duplicates else column

    @cached_property
    def duplicates(self) -> tuple[list[int], np.ndarray]:
        """Numbers that images have in common with their duplicates, and which of them show nearly nothing.

        Images of little content are duplicates of their exact copies alone.
        """
        digests, perceptual = (self.column(name) for name in ("digest", "perceptual"))
        near = self.splits.join_duplicates == "near"
        numbers = clusters(digests, perceptual, np.full(len(digests), near))
        blank = np.zeros(len(digests), dtype=bool)
        repeated = np.flatnonzero(np.bincount(numbers)[numbers] > 1)
        for start in range(0, len(repeated), _CHUNK):
            rows = repeated[start : start + _CHUNK]
            blank[rows] = ~have_content(self.store.read(np.asarray(self.kept)[rows]).numpy())
        if near and blank.any():
            numbers = clusters(digests, perceptual, ~blank)
        return numbers.tolist(), blank

    @cached_property
    def groups(self) -> Groups:
        """The groups of images that stay in one split."""
        joined = self.splits.join_duplicates != "none"
        numbers, blank = self.duplicates if joined else (None, np.zeros(0, dtype=bool))
        patients, digests = (self.column(name) for name in ("patient", "digest"))
        return image_groups(patients, digests, numbers, blank, by=self.splits.split_by)

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """Split name -> rows of the store."""
        labels, digests, given = (self.column(name) for name in ("label", "digest", "split"))
        if self.blocks:
            positions = self.blocks.rows
        else:
            positions = split(self.splits, labels=labels, groups=self.groups, digests=digests, given=given)
        return {name: [self.kept[position] for position in own] for name, own in positions.items()}

    @cached_property
    def blocks(self) -> Blocks | None:
        """The contiguous blocks of slices, whose rows count the images that are used; None: another kind of split."""
        if self.splits.split_by != "blocks":
            return None
        order = slice_order({name: self.column(name) for name in ORDERED_BY}, self.names)
        digests, given = self.column("digest"), self.column("split")
        return split_by_blocks(self.splits, order=order, groups=self.groups, digests=digests, given=given)

    @property
    def split_by(self) -> str:
        """The unit that stays in one split: "given" by the data, "blocks" of slices, "patient" or "image"."""
        if self.blocks:
            return "blocks"
        if self.given_splits:
            return "given"
        return "patient" if self.groups.of_patients else "image"

    @property
    def test_reason(self) -> str:
        """The reason why test images are held out, or why none are."""
        return choose_test_fraction(self.splits, groups=self.groups, given=self.column("split")).reason

    @property
    def patients_of_splits(self) -> dict[str, int] | None:
        """The number of patients in each split; None: images are not split by patient."""
        if not self.groups.of_patients:
            return None
        patient = self.store.columns["patient"]
        return {name: len({patient[row] for row in rows} - {""}) for name, rows in self.rows.items()}

    @property
    def given_splits(self) -> set[str]:
        """The names of the splits that the data gives."""
        return set(self.store.columns["split"]) - {""}

    @cached_property
    def content(self) -> str:
        """A digest of the classes, and of the training and validation images in their order."""
        columns = [self.store.columns[name] for name in ("digest", "label")]
        content = hashlib.blake2b(str(tuple(self.store.manifest["class_names"])).encode(), digest_size=16)
        for name in ("train", "val"):
            content.update(json.dumps([[column[row] for column in columns] for row in self.rows[name]]).encode())
        return content.hexdigest()
