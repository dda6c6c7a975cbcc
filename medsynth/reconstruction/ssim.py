"""Structural similarity as a term (Wang et al. 2004; Zhao et al. 2017, "Loss functions for image restoration")."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from medsynth.reconstruction.foreground import foreground_mean

_MARGIN = 5  # pixels at the border, whose windows of 11 pixels reach beyond the image


class SSIM:
    """``weight * (1 - SSIM(output, target))`` of values from 0 to 1, over windows that lie inside the image.

    Args:
        weight: of the term.
    """

    def __init__(self, *, weight: float = 10.0):
        self.weight = weight

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar."""
        output, target = output.float() / 2 + 0.5, target.float() / 2 + 0.5
        with torch.autocast(output.device.type, enabled=False):  # differences of squares do not survive bfloat16
            _, windows = structural_similarity_index_measure(
                output, target, data_range=1.0, reduction="none", return_full_image=True
            )
        inside = (slice(None), slice(None), slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
        return self.weight * foreground_mean(1 - windows[inside], None if mask is None else mask[inside])
