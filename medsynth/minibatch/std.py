"""Minibatch standard deviation, the layer of progressive growing and StyleGAN2 against mode collapse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth.contracts import InputError
from medsynth.minibatch.beside import beside

_SMALLEST = 1e-8  # is added to variances: keeps the derivative of the square root finite where images are equal


class MinibatchStd(nn.Module):
    """One more feature or map: the standard deviation over a group of images, averaged over features and positions.

    Karras et al. 2018, section 3: generated images that vary too little become visible to the discriminator. There the
    group is the batch; groups of 4 are those of the authors' program and of StyleGAN2 (Karras et al. 2020). For a group
    of n images with features f of mean m: the mean over features and positions of ``sqrt(sum (f - m)^2 / n + 1e-8)``.

    Groups are made of consecutive images of what is computed at a time: of a microbatch with ``task.accumulate`` above
    1, on several devices of one device's share. Where ``group`` does not divide their number, some groups are larger;
    fewer images than ``group`` are one group. It has no weights.

    Args:
        channels: of the features or maps; not needed.
        positions: of the maps, H times W; not needed.
        group: images of a group.

    Raises:
        InputError: a group of less than two images has no deviation.
    """

    added = 1

    def __init__(self, channels: int, positions: int, *, group: int = 4):
        super().__init__()
        if group < 2:
            raise InputError(f"minibatch.group={group} must be 2 or more: one image has no deviation from others.")
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, C + 1) or (N, C + 1, H, W)."""
        rows = features.float().flatten(1)
        if len(rows) % self.group == 0:  # all groups at once
            statistics = _deviation(rows.unflatten(0, (-1, self.group))).repeat_interleave(self.group)[:, None]
        else:
            groups = rows.tensor_split(max(1, len(rows) // self.group))
            statistics = torch.cat([_deviation(group).expand(len(group), 1) for group in groups])
        return beside(features, statistics)


def _deviation(group: Tensor) -> Tensor:
    """Return the mean over the features (..., n, F) of their standard deviation over the n images."""
    variance = (group - group.mean(dim=-2, keepdim=True)).square().mean(dim=-2)
    return (variance + _SMALLEST).sqrt().mean(dim=-1)
