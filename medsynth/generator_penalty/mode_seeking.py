"""Mode seeking (Mao et al. 2019, "Mode seeking generative adversarial networks for diverse image synthesis")."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import GeneratorUpdate, InputError
from medsynth.generator_penalty.precision import wide

_SMALLEST = 1e-5  # as in the authors' program: the term of equal images is large and finite


class ModeSeeking:
    """``weight / (d(G(z1), G(z2)) / d(z1, z2))``: images of different noise differ (Mao et al. 2019, section 3.2).

    The paper maximizes the ratio of the two distances, mean absolute differences; as the authors' program does, its
    inverse is minimized, and each distance is averaged over the pairs before they are divided. A generator that has
    collapsed onto a few modes has a small ratio.

    The program draws two images for each label. Here the pairs are those of the batch: each image and the next one, of
    the same label where there are labels, so that no further image is generated. A label that a microbatch has once
    takes part in no pair; without any pair the term is zero.

    Args:
        weight: of the term; 1 in the paper.
        interval: generator updates per update with the term, which is then as many times as strong.

    Raises:
        InputError: the interval is less than 1.
    """

    def __init__(self, *, weight: float = 1.0, interval: int = 1):
        if interval < 1:
            raise InputError(f"generator_penalty.mode_seeking.interval={interval} must be 1 or more.")
        self.weight = weight
        self.interval = interval

    def __call__(self, update: GeneratorUpdate) -> Tensor:
        """Return the term, a scalar with its graph."""
        images, z = wide(update.images), wide(update.z)
        first, second = _pairs(z, update.labels)
        if not len(first):
            return 0 * images.sum()
        of_images = (images[first] - images[second]).abs().mean()
        of_noise = (z[first] - z[second]).abs().mean()
        return self.weight / (of_images / of_noise + _SMALLEST)


def _pairs(z: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows of each pair's first and second image: neighbors, of equal labels where there are labels."""
    if labels is None:
        rows = torch.arange(len(z), device=z.device)
        return rows[:-1], rows[1:]
    rows = labels.argsort(stable=True)
    equal = labels[rows[:-1]] == labels[rows[1:]]
    return rows[:-1][equal], rows[1:][equal]
