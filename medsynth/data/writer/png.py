"""Writer of PNG files for viewing: black is the intensity's ``low``, white its ``high``; units are not stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from medsynth.data.writer.base import FilePerImage, ImageSet, quantized, to_levels


class PngWriter(FilePerImage):
    """A writer of gray or RGB images of 8 bits, or gray images of 16 bits, over the full range of the type.

    Raises:
        InputError: Pillow does not write PNG files with this number of channels and bits.
    """

    suffix = ".png"

    def __init__(self, folder: Path, images: ImageSet, *, bits: int) -> None:
        images.check_channels(f"png{bits}", *((1, 3) if bits == 8 else (1,)))
        super().__init__(folder, images)
        self.levels = 2**bits - 1
        self.dtype = np.uint8 if bits == 8 else np.uint16
        self.stored = quantized(images.intensity, self.levels)

    def write(self, path: Path, number: int, image: Tensor, label: int | None) -> None:
        """Write one file; see FilePerImage."""
        values = to_levels(image, self.levels).numpy().astype(self.dtype)
        Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0)).save(path)
