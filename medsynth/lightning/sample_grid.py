"""The callback that draws sample grids: generated images from fixed noise over time, and real images beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_tensor
from torchvision.utils import make_grid, save_image

from medsynth.contracts import counter_seed, noise
from medsynth.files import replacing
from medsynth.layers.translation import middle
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import PictureLogger, training_data
from medsynth.report.points import drawable
from medsynth.runs.layout import RECONSTRUCTED, TRANSLATED

_COLUMNS = 8  # cases of a picture of translations
_ERROR_GAIN = 4  # an absolute error of 1 / 4 of the range is white
_MOST_CLASSES = 16  # rows of a grid
_LETTERS = 18  # of a class's name


class SampleGrid(pl.Callback):
    """Draws generated images, always from the same noise, into ``<images seen>.png`` after each validation.

    ``real.png`` is beside them, and ``latest.png`` shows real images on the left and generated ones on the right. Where
    the task has an encoder, ``reconstructed.png`` shows real images and their reconstructions, and ``latest.png`` too.
    Where it translates, ``translated.png`` and ``latest.png`` show source, target, output and absolute error of the
    first validation images, one below the other.
    Images of conditional generators are in rows by class, real ones in the same rows, with the names of the classes
    on the left; of many classes a selection is drawn. Points are drawn into a plane. Loggers that take pictures get all
    but ``latest.png``.

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
        data = training_data(trainer)
        rows = class_rows(self.num_images, data.class_names if pl_module.num_classes else ())
        labels = rows.labels if rows.names else None
        batch = data.val_batch(self.num_images)
        real = pl_module.real_images(batch) if labels is None else data.val_images_of(labels)
        sources = pl_module.sources(batch)
        fake = self._generate(pl_module, labels, sources)
        real_path, fake_path = self.folder / "real.png", self.folder / f"{pl_module.images_seen:09d}.png"
        save_picture(_grid(real, rows), real_path)
        save_picture(_grid(fake, rows), fake_path)
        pictures = {"generated": fake_path, "real": real_path}
        panels = {"real": real, "generated": fake}
        if pl_module.reconstructions is not None:
            originals, made = (images[: self.num_images] for images in pl_module.reconstructions)
            panels = {"real": originals, "reconstructed": made, "generated": fake}
            pictures["reconstructed"] = self.folder / RECONSTRUCTED
            save_picture(side_by_side({"real": originals, "reconstructed": made}), pictures["reconstructed"])
        latest = side_by_side(panels, rows)
        if sources is not None:
            pictures["translated"] = self.folder / TRANSLATED
            latest = translations(sources, real, fake, paired=pl_module.has_pairs)
            save_picture(latest, pictures["translated"])
        save_picture(latest, self.folder / "latest.png")
        for logger in trainer.loggers:
            if isinstance(logger, PictureLogger):
                logger.log_pictures("samples", pictures, step=pl_module.images_seen)

    def _generate(self, pl_module: GenerativeModule, labels: Sequence[int] | None, sources: Tensor | None) -> Tensor:
        given = labels if sources is None else sources
        count = self.num_images if given is None else len(given)
        z = noise(count, pl_module.generator.latent_dim, seed=counter_seed("grid", self.seed))
        return pl_module.sample(z, None if labels is None else torch.tensor(labels), sources).cpu()


class ClassRows(NamedTuple):
    """The rows of a grid whose images are ordered by class.

    Attributes:
        names: of the classes that are drawn; empty: the images have no classes.
        labels: of the images, one row after the other.
        columns: images in a row; None: a square grid.
    """

    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    columns: int | None = None


def class_rows(count: int, class_names: Sequence[str]) -> ClassRows:
    """Arrange at most ``count`` images in rows of one class each, evenly chosen classes where there are many."""
    if not class_names:
        return ClassRows()
    drawn = min(len(class_names), count, _MOST_CLASSES)
    side = math.ceil(count**0.5)
    columns = side if drawn <= count // side else count // drawn
    rows = max(1, count // (columns * drawn))  # of each class
    chosen = [place * len(class_names) // drawn for place in range(drawn)]
    labels = tuple(label for label in chosen for _ in range(rows * columns))
    return ClassRows(tuple(class_names[label] for label in chosen), labels, columns)


def side_by_side(panels: Mapping[str, Tensor], rows: ClassRows | None = None) -> Tensor:
    """Draw images in [-1, 1], by title, as one picture (3, H, W) in [0, 1], from left to right."""
    grids = [
        _titled(title, _grid(images, rows if rows and len(images) == len(rows.labels) else ClassRows()))
        for title, images in panels.items()
    ]
    height = max(grid.shape[1] for grid in grids)
    gap = torch.ones(3, height, 12)
    return torch.cat([part for grid in grids for part in (gap, _padded(grid, height))][1:], dim=2)


def translations(sources: Tensor, targets: Tensor, outputs: Tensor, *, paired: bool) -> Tensor:
    """Draw a column for each of the first cases, (3, H, W) in [0, 1]: source, target, output and absolute error.

    The error is white at a quarter of the range and beyond. Unpaired targets are not those of the sources: without
    ``paired`` there is no error.
    """
    channels = targets.shape[1]
    rows = {"source": middle(sources, channels), "target" if paired else "unpaired image": targets, "output": outputs}
    if paired:
        rows[f"absolute error, white: {1 / _ERROR_GAIN:g} of the range"] = _error(outputs, targets)
    columns = min(_COLUMNS, *map(len, rows.values()))
    pictures = [_titled(title, _grid(images[:columns], ClassRows(columns=columns))) for title, images in rows.items()]
    return torch.cat(pictures, dim=1)


def _error(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets).abs() * _ERROR_GAIN - 1).clamp(-1, 1)


def _grid(images: Tensor, rows: ClassRows) -> Tensor:
    images = torch.from_numpy(drawable(images.numpy()))
    columns = rows.columns or math.ceil(len(images) ** 0.5)
    grid = make_grid(images.clamp(-1, 1) / 2 + 0.5, nrow=columns, padding=1)
    return _with_names(grid, rows.names) if rows.names and len(images) == len(rows.labels) else grid


def _with_names(grid: Tensor, names: Sequence[str]) -> Tensor:
    """Write a name to the left of each class's rows, in letters that stay readable when the picture is scaled down."""
    height = grid.shape[1] / len(names)
    font = ImageFont.load_default(size=max(10, min(height / 3, grid.shape[1] / 28)))
    texts = [name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…" for name in names]
    width = math.ceil(max(font.getlength(text) for text in texts)) + 8
    strip = Image.new("L", (width, grid.shape[1]), color=255)
    draw = ImageDraw.Draw(strip)
    for place, text in enumerate(texts):
        draw.text((width - 4, (place + 0.5) * height), text, fill=0, font=font, anchor="rm")
    return torch.cat([to_tensor(strip).expand(len(grid), -1, -1), grid], dim=2)


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
