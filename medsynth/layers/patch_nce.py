"""The contrastive distance of patches (Park et al. 2020, "Contrastive learning for unpaired translation", CUT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from medsynth.contracts import Features


class PatchFeatures(nn.Module):
    """Features of patches: two linear layers for each map, on the values at some of its positions, of length 1.

    Args:
        channels: of the maps.
        width: features of a patch; 256 in the paper.
    """

    def __init__(self, channels: Sequence[int], *, width: int = 256):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)) for count in channels
        )
        self.apply(_initialize)

    def forward(self, maps: Features, positions: Sequence[Tensor]) -> Features:
        """Return features (N, P, width) of maps (N, C_l, H_l, W_l) at ``positions`` (P,), from 0 to H_l W_l - 1."""
        found: list[Tensor] = []
        for number, (values, places) in enumerate(zip(maps, positions, strict=True)):
            chosen = values.flatten(2)[:, :, places].transpose(1, 2)
            found.append(normalize(cast(Tensor, self.layers[number](chosen)).float(), dim=2))
        return tuple(found)


def draw_positions(maps: Features, count: int) -> list[Tensor]:
    """Draw ``count`` positions of each map (N, C, H, W), all of a smaller one, from PyTorch's global generator."""
    sizes = [values.shape[2] * values.shape[3] for values in maps]
    return [torch.randperm(size, device=values.device)[:count] for size, values in zip(sizes, maps, strict=True)]


def patch_nce(queries: Tensor, keys: Tensor, *, temperature: float) -> Tensor:
    """Return ``-log(exp(q.k / t) / sum over k' exp(q.k' / t))``, the mean over all patches, equation 3 of the paper.

    Args:
        queries: features (N, P, F) of the patches of translations.
        keys: those of the patches of their sources, at the same positions; the others of the same image are negatives.
        temperature: t.
    """
    similarities = torch.bmm(queries, keys.transpose(1, 2)) / temperature  # (N, P, P)
    own = torch.arange(queries.shape[1], device=queries.device).expand(len(queries), -1)
    return cross_entropy(similarities.flatten(0, 1), own.flatten())


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
