"""Simple augmentation of images, the baseline that generated images have to beat."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from medsynth.augment.diffaugment import DiffAugment


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random mirroring, shifts, brightness and contrast.

    Attributes:
        flip: mirror half of the images left and right.
        shift: largest shift, as a fraction of height and width.
        brightness: largest change, in units of the range [-1, 1].
        contrast: largest relative change.
    """

    flip: bool = True
    shift: float = 0.0625
    brightness: float = 0.1
    contrast: float = 0.1

    def __call__(self, images: Tensor) -> Tensor:
        """Return augmented images (N, C, H, W) in [-1, 1]."""
        if self.flip:
            mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        change = DiffAugment(
            policy=["color", "translation"],
            brightness=self.brightness,
            saturation=0.0,
            contrast=self.contrast,
            translation=self.shift,
            fill="edge",
        )
        return change(images).clamp(-1, 1)
