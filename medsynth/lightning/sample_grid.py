"""The callback that draws sample grids: generated images from fixed noise over time, and real images beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import to_tensor
from torchvision.utils import make_grid, save_image

from medsynth.contracts import counter_seed, noise
from medsynth.files import replacing
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import PictureLogger, training_data
from medsynth.report.points import drawable
from medsynth.runs.layout import RECONSTRUCTED


class SampleGrid(pl.Callback):
    """Draws generated images, always from the same noise, into ``<images seen>.png`` after each validation.

    ``real.png`` is beside them, and ``latest.png`` shows real images on the left and generated ones on the right. Where
    the task has an encoder, ``reconstructed.png`` shows real images and their reconstructions, and ``latest.png`` too.
    Images of conditional generators are ordered by class; points are drawn into a plane. Loggers that take pictures get
    all but ``latest.png``.

    Args:
        folder: of the pictures.
        num_images: images in a grid.
        seed: of the noise.
    """

    def __init__(self, *, folder: str, num_images: int = 64, seed: int = 0):
        self.folder = Path(folder)
        self.num_images = num_images
        self.seed = seed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Draw the grids."""
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        real = pl_module.real_images(training_data(trainer).val_batch(self.num_images))
        fake = self._generate(pl_module)
        real_path, fake_path = self.folder / "real.png", self.folder / f"{pl_module.images_seen:09d}.png"
        save_picture(_grid(real), real_path)
        save_picture(_grid(fake), fake_path)
        pictures = {"generated": fake_path, "real": real_path}
        panels = {"real": real, "generated": fake}
        if pl_module.reconstructions is not None:
            originals, made = (images[: self.num_images] for images in pl_module.reconstructions)
            panels = {"real": originals, "reconstructed": made, "generated": fake}
            pictures["reconstructed"] = self.folder / RECONSTRUCTED
            save_picture(side_by_side({"real": originals, "reconstructed": made}), pictures["reconstructed"])
        save_picture(side_by_side(panels), self.folder / "latest.png")
        for logger in trainer.loggers:
            if isinstance(logger, PictureLogger):
                logger.log_pictures("samples", pictures, step=pl_module.images_seen)

    def _generate(self, pl_module: GenerativeModule) -> Tensor:
        z = noise(self.num_images, pl_module.generator.latent_dim, seed=counter_seed("grid", self.seed))
        labels = None
        if pl_module.num_classes:
            labels = torch.arange(self.num_images) * pl_module.num_classes // self.num_images
        return pl_module.sample(z, labels).cpu()


def side_by_side(panels: Mapping[str, Tensor]) -> Tensor:
    """Draw images in [-1, 1], by title, as one picture (3, H, W) in [0, 1], from left to right."""
    grids = [_titled(title, _grid(images)) for title, images in panels.items()]
    height = max(grid.shape[1] for grid in grids)
    gap = torch.ones(3, height, 12)
    return torch.cat([part for grid in grids for part in (gap, _padded(grid, height))][1:], dim=2)


def _grid(images: Tensor) -> Tensor:
    images = torch.from_numpy(drawable(images.numpy()))
    return make_grid(images.clamp(-1, 1) / 2 + 0.5, nrow=math.ceil(len(images) ** 0.5), padding=1)


def _titled(title: str, picture: Tensor) -> Tensor:
    strip = Image.new("L", (picture.shape[2], 16), color=255)
    ImageDraw.Draw(strip).text((4, 2), title, fill=0)
    return torch.cat([to_tensor(strip).expand(3, -1, -1), picture], dim=1)


def _padded(picture: Tensor, height: int) -> Tensor:
    return torch.nn.functional.pad(picture, (0, 0, 0, height - picture.shape[1]), value=1.0)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write a picture (C, H, W) in [0, 1] as PNG, completely or not at all."""
    with replacing(path) as temporary:
        save_image(picture, temporary, format="png")
