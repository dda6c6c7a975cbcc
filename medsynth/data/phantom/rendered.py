"""Samples that are rendered on first use and kept in memory, or rendered each time."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medsynth.data.phantom.canvas import Array


class RenderedImages(Dataset[dict[str, Any]], abc.ABC):
    """Samples of rendered images with "label" and "index", both int; ``labels`` int64 ``(len,)``.

    A fixed number of them is rendered on first use and kept as float16, whose steps are 1/2000 of the window at most.
    ``endless`` ones exist for every index >= 0 and are rendered each time.

    Args:
        render: index -> images of the sample, float32 ``(*shape)`` in [-1, 1] or arrays that are stacked to that.
        shape: of what is rendered.
        count: number of samples; of endless ones the length of an epoch.
        classes: number of classes; the label of a sample is ``index % classes``.
        endless: samples exist for every index.
    """

    varies = False

    def __init__(
        self,
        render: Callable[[int], Array | Sequence[Array]],
        shape: tuple[int, ...],
        count: int,
        *,
        classes: int,
        endless: bool,
    ) -> None:
        self.endless = endless
        self.labels = torch.arange(count) % classes
        self._render = render
        self._classes = classes
        # The system allocates memory only when it is written.
        self._kept = np.empty((0 if endless else count, *shape), dtype=np.float16)
        self._rendered = np.zeros(len(self._kept), dtype=bool)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        if index < 0 or (index >= len(self) and not self.endless):
            raise IndexError(f"no phantom {index} among {len(self)}")
        return {**self.sample(self._images(index)), "label": index % self._classes, "index": index}

    @abc.abstractmethod
    def sample(self, images: Tensor) -> dict[str, Tensor]:
        """Return the entries of a sample for what was rendered, ``(*shape)``."""

    def _images(self, index: int) -> Tensor:
        if self.endless:
            return torch.from_numpy(np.asarray(self._render(index), dtype=np.float32))
        if not self._rendered[index]:
            self._kept[index] = self._render(index)
            self._rendered[index] = True
        return torch.from_numpy(self._kept[index].astype(np.float32))


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Return a gray image (H, W) as equal channels (C, H, W)."""
    return image.expand(channels, -1, -1).contiguous()
