"""Datasets of prepared images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medsynth.contracts import counter_seed
from medsynth.data.cache import Store
from medsynth.data.geometry import RandomViews, central


class PreparedImages(Dataset[dict[str, Any]]):
    """Samples ``{"image" (C, size, size), "label" (if labeled), "index"}``, one or many at a time.

    Of pairs "image" is the source, "target" (C, size, size) its translation and, with masks, "mask" (1, size, size) is
    1 in the foreground and 0 outside. A random view is the same one of all of them.

    ``index`` counts within this dataset. If the dataset ``varies``, each index beyond ``len`` is another view of image
    ``index % len``, drawn by ``seed`` and that index alone; "index" in the sample is the image's.

    Args:
        store: the prepared images.
        rows: the rows of the store in this dataset.
        labels: of all rows of the store; None: no labels.
        size: height and width of the samples, in pixels.
        views: random transforms; None: always the central part.
        seed: of the views.
        neighbors: of each row in this dataset, the rows (n, 2 k + 1) of the slices around its source, itself in the
            middle, which are channels in this order; None: the source alone.
    """

    endless = False

    def __init__(
        self,
        store: Store,
        rows: Sequence[int],
        *,
        labels: Sequence[int] | None,
        size: int,
        views: RandomViews | None = None,
        seed: int = 0,
        neighbors: np.ndarray | None = None,
    ) -> None:
        self.varies = views is not None
        self.rows = np.asarray(rows, dtype=np.int64)
        self._store = store
        self._labels = None if labels is None else torch.tensor(labels)[self.rows]
        self._size = size
        self._views = views
        self._seed = seed
        self._neighbors = neighbors
        self._paired, self._masked = store.manifest["paired"], store.manifest["masked"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor | None:
        """The labels of the images, int64 ``(len,)``; None: they have none."""
        return self._labels

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self) and not self.varies:
            raise IndexError(f"no image {index} among {len(self)}")
        batch = self.__getitems__([index])
        sample = {name: values[0] for name, values in batch.items()}
        return sample | {name: int(sample[name]) for name in ("label", "index") if name in sample}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch: a loop over single images would take longer than reading them."""
        counters = np.asarray(indices, dtype=np.int64)
        positions = counters % len(self)
        images = self._stacked(positions)
        if self._views is None:
            images = central(images, self._size) if images.shape[-1] != self._size else images
        else:
            seeds = [counter_seed("view", self._seed, counter) for counter in counters.tolist()]
            images = torch.stack([self._views(image, seed) for image, seed in zip(images, seeds, strict=True)])
        index = torch.from_numpy(positions)
        batch = {"image": images, "index": index}
        if self._masked:
            images, mask = images[:, :-1], images[:, -1:]
            batch |= {"image": images, "mask": (mask > 0).float()}
        if self._paired:
            count = images.shape[1] * self._reach // (self._reach + 1)
            batch["image"], batch["target"] = images[:, :count].contiguous(), images[:, count:].contiguous()
        if self._labels is not None:
            batch["label"] = self._labels[index]
        return batch

    @property
    def _reach(self) -> int:
        """The number of slices that are the source of a target."""
        return 1 if self._neighbors is None else self._neighbors.shape[1]

    def _stacked(self, positions: np.ndarray) -> Tensor:
        """Return the stored channels of images, those of neighboring sources before them."""
        images = self._store.read(self.rows[positions])
        if self._neighbors is None:
            return images
        count = (images.shape[1] - self._masked) // 2
        near = self._store.read(self._neighbors[positions].reshape(-1))[:, :count]
        sources = near.reshape(len(images), -1, *images.shape[2:])
        return torch.cat([sources, images[:, count:]], dim=1)
