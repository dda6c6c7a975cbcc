"""The base class of sources with known modes: images drawn by blocks from counters and kept in memory."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medsynth.contracts import Intensity, counter_seed
from medsynth.data.errors import check_least
from medsynth.data.source import Datasets

_BLOCK = 1024  # images that are drawn from one seed
GOOD_FOR_NONE = -1


@dataclasses.dataclass(kw_only=True)
class ModeSource(abc.ABC):
    """A source (``data.source.Source``) of images that belong to known modes, and their reader (``ModeReader``).

    The fields are the options ``data.source.*``. Image ``index`` of a split is of mode ``index % num_modes``, so that
    all modes are equally frequent; it depends on ``seed``, its split and its index alone. The modes are the classes.

    Raises:
        InputError: an option has an impossible value.
    """

    image_size: int
    channels: int
    num_images: int
    num_val: int
    num_test: int
    seed: int

    def __post_init__(self) -> None:
        for name, least in {"num_images": 1, "num_val": 2, "num_test": 0, "seed": 0}.items():
            check_least(f"data.source.{name}", getattr(self, name), least)
        self.class_names = self._names()
        self.num_modes = len(self.class_names)
        self.intensity = Intensity(-1.0, 1.0, "drawn value")
        self.spacing = None
        self.modality = ""
        self.description = f"{self.num_images:,} images of {self.num_modes} known modes"

    @property
    def content(self) -> str:
        """The options that the images depend on, as text; see medsynth.data.source.Source."""
        return f"{type(self).__name__}{dataclasses.asdict(self)}"

    def datasets(self) -> Datasets:
        """Return training, validation and test images; see medsynth.data.source.Source."""
        return Datasets(
            ModeImages(self, "train", self.num_images),
            ModeImages(self, "val", self.num_val),
            ModeImages(self, "test", self.num_test) if self.num_test else None,
        )

    def images(self, split: str, count: int) -> Tensor:
        """Draw the first ``count`` images (count, C, H, W) of a split, float32 in [-1, 1]."""
        blocks = [self._block(split, first) for first in range(0, count, _BLOCK)]
        return torch.from_numpy(np.concatenate(blocks)[:count].astype(np.float32)).clamp(-1, 1)

    def _block(self, split: str, first: int) -> np.ndarray:
        rng = np.random.default_rng(counter_seed("modes", self.seed, split, first))
        return self._draw(np.arange(first, first + _BLOCK) % self.num_modes, rng)

    @abc.abstractmethod
    def modes(self, images: Tensor) -> Tensor:
        """Return the mode (N,) of each image (N, C, H, W), int64; -1: it is no good image of any mode."""

    @abc.abstractmethod
    def _names(self) -> tuple[str, ...]:
        """Return the names of the modes in their order."""

    @abc.abstractmethod
    def _draw(self, modes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one image (C, H, W) of each of the ``modes`` (N,)."""


class ModeImages(Dataset[dict[str, Any]]):
    """Images ``{"image" float32 (C, H, W) in [-1, 1], "label" int, "index" int}`` in memory, drawn when first read.

    Batches are taken as a whole (``__getitems__``).
    """

    endless = False
    varies = False

    def __init__(self, source: ModeSource, split: str, count: int) -> None:
        self.labels = torch.arange(count) % source.num_modes
        self._source = source
        self._split = split
        self._images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        if not 0 <= index < len(self):
            raise IndexError(f"no image {index} among {len(self)}")
        return {"image": self._kept()[index], "label": int(self.labels[index]), "index": index}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        index = torch.as_tensor(indices)
        return {"image": self._kept()[index], "label": self.labels[index], "index": index}

    def _kept(self) -> Tensor:
        if self._images is None:
            self._images = self._source.images(self._split, len(self))
        return self._images
