"""The interface of sources of images: a description, and a data set for each split."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from medsynth.contracts import DataDescription


class ImageDataset(Protocol):
    """A map-style dataset of ``{"image": float32 (C, H, W) in [-1, 1], "label": int (if any), "index": int}``.

    Attributes:
        endless: samples exist for every index >= 0, each a different image; ``len`` is then the length of an epoch.
        varies: samples exist for every index >= 0, each a different view of image ``index % len``.

    A dataset with ``__getitems__`` builds batches itself.
    """

    endless: bool
    varies: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class Datasets(NamedTuple):
    """Datasets that share no image; neither training nor model selection sees ``test``, which may be None."""

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset | None = None


class Source(DataDescription, Protocol):
    """A source of images. Its description is valid once ``datasets`` has returned."""

    def datasets(self) -> Datasets:
        """Return the datasets.

        Raises:
            InputError: an option or the data's files have to be changed.
        """
        ...
