"""Labels of real and generated images in losses that have them: smoothed on the real side, flipped at random."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import InputError


class Labels:
    """Labels 1 of real and 0 of generated images for the discriminator, made less certain; the generator's stay 1.

    * smoothing a: real images have the label 1 - a, generated ones 0 (one-sided: Salimans et al. 2016, section 3.4; 0.1
      is usual), so that the discriminator's certainty, and with it its logits, stays bounded.
    * flipping p: each image has the other side's label with probability p (Chintala et al. 2016, "How to train a GAN",
      tip 6: noisy labels for the discriminator).

    Args:
        smoothing: a, from 0 to less than 1.
        flipping: p, from 0 to less than 0.5, where labels say nothing.

    Attributes:
        even: the mean label of an image that is real as often as generated.

    Raises:
        InputError: names the option that is out of range.
    """

    def __init__(self, *, smoothing: float, flipping: float):
        for name, value, end in (("smoothing", smoothing, 1.0), ("flipping", flipping, 0.5)):
            if not 0 <= value < end:
                raise InputError(f"loss.label_{name}={value} must be from 0 to less than {end:g}.")
        self.real_label = 1.0 - smoothing
        self.flipping = flipping
        self.even = self.real_label / 2

    def of(self, logits: Tensor, *, real: bool) -> Tensor:
        """Return a label for each row of the logits (N, K), as (N, 1); drawn from PyTorch's generator where flipped."""
        label, other = (self.real_label, 0.0) if real else (0.0, self.real_label)
        labels = logits.new_full((len(logits), 1), label)
        if not self.flipping:
            return labels
        flipped = torch.rand(len(logits), 1, device=logits.device) < self.flipping
        return labels.masked_fill(flipped, other)
