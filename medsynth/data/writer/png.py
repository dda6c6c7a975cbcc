"""PNG: for looking at. Black is the intensity's ``low``, white its ``high``; a PNG has no place for units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from medsynth.data.writer.base import FilePerImage, ImageSet, quantized, to_levels


class PngWriter(FilePerImage):
    """Gray or RGB of 8 bits, or gray of 16, over the full range of the type.

    Raises:
        InputError: PNG as Pillow writes it holds no such images.
    """

    suffix = ".png"

    def __init__(self, folder: Path, images: ImageSet, *, bits: int) -> None:
        images.demand_channels(f"png{bits}", *((1, 3) if bits == 8 else (1,)))
        super().__init__(folder, images)
        self.levels = 2**bits - 1
        self.dtype = np.uint8 if bits == 8 else np.uint16
        self.stored = quantized(images.intensity, self.levels)

    def write(self, path: Path, number: int, image: Tensor, label: int | None) -> None:
        values = to_levels(image, self.levels).numpy().astype(self.dtype)
        Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0)).save(path)
