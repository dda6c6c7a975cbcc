"""Writer of NumPy files: all images in one array of float32 values in physical units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from medsynth.data.writer.base import ImageSet, as_measured


class NpyWriter:
    """A writer of ``images.npy`` (N, C, H, W), float32, and with labels ``labels.npy`` (N,), int64."""

    location = "images.npy"

    def __init__(self, folder: Path, images: ImageSet) -> None:
        self.folder, self.images = folder, images
        self.stored = as_measured(images.intensity)
        self._labels: list[int] = []
        with (folder / self.location).open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": images.shape}
            np.lib.format.write_array_header_1_0(file, header)

    def add(self, number: int, image: Tensor, label: int | None) -> None:
        """Append one image; see Writer."""
        # A plain file is appended to, since a full disk raises an error there but kills a process that writes to a
        # memory map.
        with (self.folder / self.location).open("ab") as file:
            file.write(self.images.intensity.to_physical(image).numpy().astype("<f4").tobytes())
        if label is not None:
            self._labels.append(label)

    def close(self) -> None:
        """Write the labels; see Writer."""
        if self._labels:
            np.save(self.folder / "labels.npy", np.array(self._labels, dtype=np.int64))
