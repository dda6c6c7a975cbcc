"""The distance of features of a frozen network (Johnson et al. 2016, "Perceptual losses")."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import Backbone, Features, InputError
from medsynth.reconstruction.foreground import foreground_mean


class Perceptual:
    """``weight * mean over levels of E[|f(output) - f(target)|] / E[|f(target)|]``, with the maps f of a backbone.

    The paper has squared differences of VGG's maps, each level with a weight of its own. Here absolute ones, as in
    pix2pixHD's program, each relative to the size of the level's values on the targets, so that networks and levels of
    any scale have about the same weight.

    Args:
        backbone: will be frozen; it is no part of the checkpoints.
        levels: number of maps, counted from the network's end; None: all, at most five.
        weight: of the term.

    Raises:
        InputError: less than one level, or more than the backbone has.
    """

    def __init__(self, *, backbone: Backbone, levels: int | None = None, weight: float = 10.0):
        if levels is not None and levels < 1:
            raise InputError(f"reconstruction.perceptual.levels={levels} must be 1 or more.")
        self.weight = weight
        self.count = len(backbone.level_channels(levels))
        self.backbone = backbone.freeze().eval()

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar."""
        with torch.no_grad():
            wanted = self._maps(target)
        pairs = zip(self._maps(output), wanted, strict=True)
        terms = [
            foreground_mean((made.float() - real.float()).abs(), mask) / real.float().abs().mean().clamp(min=1e-6)
            for made, real in pairs
        ]
        return self.weight * torch.stack(terms).mean()

    def _maps(self, images: Tensor) -> Features:
        if next(self.backbone.parameters()).device != images.device:
            self.backbone.to(images.device)
        return self.backbone.levels(images, self.count)
