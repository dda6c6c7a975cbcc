"""Segmentation: a small U-Net gives each pixel the background or a region."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.metrics.meandice import compute_dice
from monai.metrics.utils import get_mask_edges, get_surface_distance
from monai.networks.nets.unet import UNet
from torch import Tensor, nn
from torch.nn.functional import one_hot

from medsynth.contracts import InputError
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.classification import CHUNK, chunks
from medsynth.utility.fit import seeded
from medsynth.utility.task import Examples

LEVELS = 3  # of the U-Net, each with half of the resolution of the one before
DICE, HAUSDORFF, FALSE_ALARMS = "dice", "hausdorff95", "false_alarms"


class Segmentation:
    """Semantic segmentation by MONAI's U-Net with Dice loss and cross-entropy (Isensee et al. 2021, nnU-Net).

    Targets are uint8 (N, H, W): 0 is the background, n the n-th region. The Dice loss is that of a whole batch, so that
    images without a region are no special case, and leaves out the background.

    Args:
        regions: names, in the order of the labels from 1.
        augmentation: of the arm with augmentation; label maps are mirrored and shifted with their images.
        width: channels of the network's first level, doubled from level to level.
        device: to train on.
    """

    name = "segmentation"

    def __init__(self, regions: Sequence[str], *, augmentation: Augmentation, width: int = 8, device: str = "cpu"):
        self.regions, self.augmentation = tuple(regions), augmentation
        self.width, self.device = width, device

    def encode(self, images: ImageSet, *, augmented: bool) -> np.ndarray:
        """Return the images (N, C, H, W) as float16.

        Raises:
            InputError: their sides cannot be halved as often as the network does.
        """
        encoded = np.concatenate([chunk.half().numpy() for chunk in chunks(images)])
        step = 2 ** (LEVELS - 1)
        if any(side % step for side in encoded.shape[2:]):
            raise InputError(
                f"problem=segmentation needs images whose sides are multiples of {step} pixels, and these have "
                f"{' x '.join(map(str, encoded.shape[2:]))}: choose another data.image_size in the training."
            )
        return encoded

    def start(self, examples: list[Examples], *, seed: int) -> nn.Module:
        """Return an untrained network."""
        seeded(seed)
        network = UNet(
            spatial_dims=2,
            in_channels=examples[0].inputs.shape[1],
            out_channels=self._labels,
            channels=[self.width * 2**level for level in range(LEVELS)],
            strides=[2] * (LEVELS - 1),
        )
        return network.to(self.device)

    def batch(self, examples: Examples, positions: np.ndarray, *, augmented: bool) -> tuple[Tensor, np.ndarray]:
        """Return images (n, C, H, W) and label maps (n, H, W), both mirrored and shifted if ``augmented``."""
        assert examples.targets is not None
        images = torch.as_tensor(examples.inputs[positions]).float().to(self.device)
        maps = examples.targets[positions]
        if not augmented:
            return images, maps
        parts = torch.as_tensor(maps).to(images)[:, None] / self._labels  # within [-1, 1], as images are
        moved = dataclasses.replace(self.augmentation, brightness=0, contrast=0)(torch.cat([images, parts], dim=1))
        changed = dataclasses.replace(self.augmentation, flip=False, shift=0)(moved[:, :-1])
        return changed, (moved[:, -1] * self._labels).round().byte().cpu().numpy()

    def loss(self, network: nn.Module, inputs: Tensor, targets: np.ndarray) -> Tensor:
        """Return the sum of the Dice loss of the regions and of the cross-entropy of all labels."""
        aims = torch.as_tensor(targets).to(inputs)[:, None]
        both = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
        return both(network(inputs), aims)

    @torch.no_grad()
    def predict(self, network: nn.Module, inputs: np.ndarray) -> Tensor:
        """Return label maps (N, H, W), uint8: the label with the highest logit."""
        parts = [
            network(part.float().to(self.device)).argmax(dim=1).byte().cpu()
            for part in torch.as_tensor(inputs).split(CHUNK)
        ]
        return torch.cat(parts)

    def labeled(self, predictions: Tensor) -> np.ndarray:
        """Return the label maps as they are predicted."""
        return predictions.numpy()

    def scores(self, predictions: Tensor, targets: np.ndarray) -> Tensor:
        """Return (N, regions + 1, 2): Dice and 95 % Hausdorff distance of each region, in pixels.

        Both are NaN where the image does not show the region. A region that is not found has a Dice of 0 and the
        diagonal of the image as distance. The last entry's first value is 1 where a region is found in an image that
        shows none, 0 where none is found, and NaN in all other images.
        """
        found, true = (self._one_hot(maps) for maps in (predictions, torch.as_tensor(targets)))
        dice = compute_dice(found, true, include_background=False)
        there, hit = (maps[:, 1:].flatten(2).any(dim=2) for maps in (true, found))
        distances = torch.where(there, math.hypot(*true.shape[2:]), torch.nan)
        for region in range(len(self.regions)):
            for image in (there[:, region] & hit[:, region]).nonzero()[:, 0].tolist():
                own = (maps[image, region + 1].bool().numpy() for maps in (found, true))
                distances[image, region] = _hausdorff95(*own)
        alarm = torch.where(there.any(dim=1), torch.nan, hit.any(dim=1).float())
        of_regions = torch.stack([dice.to(distances), distances], dim=2)
        return torch.cat([of_regions, torch.stack([alarm, alarm], dim=1)[:, None]], dim=1)

    def measures(self, scores: Tensor, targets: np.ndarray) -> dict[str, float]:
        """Return the means of Dice and of the Hausdorff distance over the images that show a region, and false alarms.

        The overall ones are means over the regions. A measure without an image is left out.
        """
        of_regions, alarms = scores[:, :-1], scores[:, -1, 0]
        values = {}
        for place, measure in enumerate((DICE, HAUSDORFF)):
            each = [of_regions[:, region, place] for region in range(len(self.regions))]
            means = {
                f"{measure}/{name}": float(own.nanmean())
                for name, own in zip(self.regions, each, strict=True)
                if own.isfinite().any()
            }
            values |= ({measure: float(np.mean([*means.values()]))} if means else {}) | means
        return values | ({FALSE_ALARMS: float(alarms.nanmean())} if alarms.isfinite().any() else {})

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of all measures."""
        of_regions = [f"{measure}/{name}" for measure in (DICE, HAUSDORFF) for name in self.regions]
        return (DICE, HAUSDORFF, *of_regions, FALSE_ALARMS)

    def is_error(self, measure: str) -> bool:
        """Return whether lower values are better: all but Dice."""
        return not measure.startswith(DICE)

    def describe(self) -> dict[str, Any]:
        """Return plain values that the results depend on."""
        return {
            "task": self.name,
            "regions": list(self.regions),
            "width": self.width,
            "augmentation": dataclasses.asdict(self.augmentation),
        }

    @property
    def _labels(self) -> int:
        return len(self.regions) + 1

    def _one_hot(self, maps: Tensor) -> Tensor:
        """Return (N, labels, H, W) of label maps (N, H, W)."""
        return cast(Tensor, one_hot(maps.long(), self._labels)).movedim(-1, 1)


def _hausdorff95(found: np.ndarray, true: np.ndarray) -> float:
    """Return the 95 % Hausdorff distance of two masks (H, W), neither empty, in pixels.

    It is MONAI's, without the crop to both masks, which takes ten times as long as all else for small images.
    """
    edges = get_mask_edges(found, true, crop=False)
    return max(float(np.percentile(get_surface_distance(*pair), 95)) for pair in (edges, edges[::-1]))
