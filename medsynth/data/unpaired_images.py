"""Samples of unpaired data: a source, and any image of the other set as its target."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medsynth.contracts import counter_seed
from medsynth.data.source import ImageDataset


class UnpairedImages(Dataset[dict[str, Any]]):
    """Samples of ``sources`` whose "target" is an image of ``targets`` that a counter draws.

    It ``varies`` with the epoch in training: the index counts on, and each value draws anew. A mask is the source's.

    Args:
        sources: their "image" is the source.
        targets: other images.
        seed: of the draws.
        of: the entry of the targets' samples that is the target.
        varies: another target in each epoch; False: the same one for each index.
    """

    def __init__(
        self, sources: ImageDataset, targets: ImageDataset, *, seed: int, of: str = "image", varies: bool = True
    ) -> None:
        self.endless = sources.endless
        self.varies = varies and not sources.endless
        self.labels = getattr(sources, "labels", None)
        self._sources, self._targets, self._seed, self._of = sources, targets, seed, of

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index, count = int(index), len(self)
        if index < 0 or (index >= count and not self.varies and not self.endless):
            raise IndexError(f"no image {index} among {count}")
        anew = self._sources.endless or self._sources.varies
        drawn = int(np.random.default_rng(counter_seed("unpaired", self._seed, index)).integers(len(self._targets)))
        if self._targets.varies:  # a view of its own, too
            drawn += len(self._targets) * (1 + index)
        sample = self._sources[index if anew else index % count]
        return sample | {"target": self._targets[drawn][self._of]}
