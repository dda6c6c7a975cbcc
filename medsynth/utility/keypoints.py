"""Key points: a small network draws a heatmap for each, whose peak is its position."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medsynth.metrics.image_set import ImageSet
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.classification import CHUNK, chunks
from medsynth.utility.fit import seeded
from medsynth.utility.task import Examples

NEAR = 3  # pixels around a heatmap's peak, whose mean is the position
CERTAIN = 0.5  # part of the heatmap within NEAR pixels, below which no pseudo-label is given


class HeatmapNetwork(nn.Module):
    """Images (N, C, H, W) -> logits of a heatmap for each key point (N, points, H, W), by a U-Net of three levels.

    Ronneberger, Fischer, Brox 2015, with group normalization; work grows with the square of its width.
    """

    def __init__(self, channels: int, points: int, width: int):
        super().__init__()
        self.down = nn.ModuleList([_block(channels, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.heatmaps = nn.Conv2d(width, points, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, points, H, W)."""
        fine = self.down[0](images)
        middle = self.down[1](self.pool(fine))
        coarse = self.down[2](self.pool(middle))
        for block, beside in zip(self.up, (middle, fine), strict=True):
            coarse = block(torch.cat([interpolate(coarse, beside.shape[2:], mode="bilinear"), beside], dim=1))
        return self.heatmaps(coarse)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.GroupNorm(min(8, outputs), outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class KeyPoints:
    """Localization of key points (tracking by detection): cross-entropy of heatmaps with Gaussians at the points.

    Targets are float32 (N, points, 2), columns and rows in pixels; NaN where a point is not visible.

    Args:
        names: of the points.
        augmentation: of the arm with augmentation; points move with the images. No mirroring: it would change sides.
        width: channels of the network's first level.
        sigma: of the Gaussians in pixels.
        device: to train on.
    """

    name = "keypoints"

    def __init__(
        self,
        names: Sequence[str],
        *,
        augmentation: Augmentation,
        width: int = 8,
        sigma: float = 1.5,
        device: str = "cpu",
    ):
        self.names, self.augmentation = tuple(names), dataclasses.replace(augmentation, flip=False)
        self.width, self.sigma, self.device = width, sigma, device

    def encode(self, images: ImageSet, *, augmented: bool) -> np.ndarray:
        """Return the images (N, C, H, W) as float16."""
        return np.concatenate([chunk.half().numpy() for chunk in chunks(images)])

    def start(self, examples: list[Examples], *, seed: int) -> nn.Module:
        """Return an untrained network."""
        seeded(seed)
        return HeatmapNetwork(examples[0].inputs.shape[1], len(self.names), self.width).to(self.device)

    def batch(self, examples: Examples, positions: np.ndarray, *, augmented: bool) -> tuple[Tensor, np.ndarray]:
        """Return images (n, C, H, W), changed and shifted if ``augmented``, and their points (n, points, 2)."""
        assert examples.targets is not None
        images, points = torch.as_tensor(examples.inputs[positions]).float(), examples.targets[positions]
        if not augmented:
            return images.to(self.device), points
        changed = dataclasses.replace(self.augmentation, shift=0)(images)
        most = [int(size * self.augmentation.shift) for size in changed.shape[2:]]
        shifts = torch.stack([torch.randint(-reach, reach + 1, (len(changed),)) for reach in reversed(most)], dim=1)
        moved = torch.stack([_shifted(one, *shift) for one, shift in zip(changed, shifts.tolist(), strict=True)])
        return moved.to(self.device), points + shifts[:, None].numpy().astype(np.float32)

    def loss(self, network: nn.Module, inputs: Tensor, targets: np.ndarray) -> Tensor:
        """Return the cross-entropy of the heatmaps of visible points with Gaussians, a mean over these."""
        points = torch.as_tensor(targets).to(inputs)
        visible = points.isfinite().all(dim=2)  # (N, points)
        logs = network(inputs).flatten(2).log_softmax(dim=2)
        columns, rows = _grid(inputs)
        at = points.nan_to_num(0.0)
        squares = (columns - at[..., :1]) ** 2 + (rows - at[..., 1:]) ** 2
        aims = (-squares / (2 * self.sigma**2)).softmax(dim=2)
        each = -(aims * logs).sum(dim=2)
        return (each * visible).sum() / visible.sum().clamp(min=1)

    @torch.no_grad()
    def predict(self, network: nn.Module, inputs: np.ndarray) -> Tensor:
        """Return (N, points, 3): column and row, and the part of the heatmap that is near its peak."""
        parts = [_peaks(network(part.float().to(self.device))) for part in torch.as_tensor(inputs).split(CHUNK)]
        return torch.cat(parts).cpu()

    def labeled(self, predictions: Tensor) -> np.ndarray:
        """Return pseudo-labels (N, points, 2), NaN where the heatmap is not certain."""
        certain = predictions[..., 2:] >= CERTAIN
        return torch.where(certain, predictions[..., :2], torch.nan).numpy()

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of all measures."""
        return ("localization_error", *(f"localization_error/{name}" for name in self.names))

    def scores(self, predictions: Tensor, targets: np.ndarray) -> Tensor:
        """Return the localization errors (N, points) in pixels, NaN where a point is not visible."""
        return torch.as_tensor(np.linalg.norm(predictions[..., :2].numpy() - targets, axis=2))

    def is_error(self, measure: str) -> bool:
        """Return True: all measures are errors."""
        return True

    def measures(self, scores: Tensor, targets: np.ndarray) -> dict[str, float]:
        """Return the mean localization error of visible points in pixels, of all and of each."""
        errors = scores.numpy()
        by_point = {
            f"localization_error/{name}": float(np.nanmean(errors[:, number]))
            for number, name in enumerate(self.names)
            if np.isfinite(errors[:, number]).any()
        }
        return {"localization_error": float(np.nanmean(errors)) if by_point else math.nan} | by_point

    def describe(self) -> dict[str, Any]:
        """Return plain values that the results depend on."""
        return {
            "task": self.name,
            "points": list(self.names),
            "width": self.width,
            "sigma": self.sigma,
            "augmentation": dataclasses.asdict(self.augmentation),
        }


def points_of_masks(masks: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Return the centers of regions (N, regions, 2), columns and rows in pixels, from label maps (N, H, W).

    A region that is not in a map has NaN.
    """
    points = np.full((len(masks), len(values), 2), np.nan, dtype=np.float32)
    for number, mask in enumerate(masks):
        for place, value in enumerate(values):
            rows, columns = np.nonzero(mask == value)
            if len(rows):
                points[number, place] = columns.mean(), rows.mean()
    return points


def _shifted(image: Tensor, columns: int, rows: int) -> Tensor:
    """Return an image (C, H, W) moved by whole pixels, its margin repeated."""
    height, width = image.shape[1:]
    down = (torch.arange(height) - rows).clamp(0, height - 1)
    across = (torch.arange(width) - columns).clamp(0, width - 1)
    return image[:, down][:, :, across]


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return columns and rows of all pixels (H * W,) in the order of a flattened image."""
    height, width = images.shape[2:]
    place = torch.arange(height * width, device=images.device)
    return (place % width).float(), (place // width).float()


def _peaks(heatmaps: Tensor) -> Tensor:
    """Return (N, points, 3): the mean position within NEAR pixels of each heatmap's peak, and its part there."""
    columns, rows = _grid(heatmaps)
    shares = heatmaps.flatten(2).softmax(dim=2)
    peak = shares.argmax(dim=2, keepdim=True)
    near = ((columns - columns[peak]).abs() <= NEAR) & ((rows - rows[peak]).abs() <= NEAR)
    shares = shares * near
    part = shares.sum(dim=2)
    position = [(shares * axis).sum(dim=2) / part for axis in (columns, rows)]
    return torch.stack([*position, part], dim=2)
