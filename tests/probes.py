"""Probes of a discriminator: how far its logits tell real images from damaged ones after a few updates of its head."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from medsynth.contracts import Discriminator
from medsynth.data.phantom import Phantoms
from medsynth.loss.hinge import Hinge

BATCH = 8


@functools.cache
def phantoms(split: str, count: int, image_size: int) -> Tensor:
    """Return heads (count, 1, image_size, image_size) in [-1, 1]."""
    source = Phantoms(image_size=image_size, classes="healthy", num_images=count, num_val=count)
    return torch.stack([torch.as_tensor(source.image(split, index)).float()[None] for index in range(count)])


def displaced(images: Tensor) -> Tensor:
    """Return images moved by half of their height and width; what leaves at one side comes back at the other."""
    return images.roll((images.shape[2] // 2, images.shape[3] // 2), dims=(2, 3))


def brightened(images: Tensor) -> Tensor:
    """Return images twice as bright, clipped at white."""
    return (2 * images + 1).clamp(max=1)


def blurred(images: Tensor) -> Tensor:
    """Return images averaged over 4 x 4 pixels."""
    return interpolate(avg_pool2d(images, 4), images.shape[2:], mode="bilinear")


def half_swapped(images: Tensor) -> Tensor:
    """Return images whose lower half is the upper half of the next image."""
    half = images.shape[2] // 2
    return torch.cat([images[:, :, :half], images.roll(1, dims=0)[:, :, :half]], dim=2)


def texture_only(images: Tensor) -> Tensor:
    """Return images whose fields, 4 x 4 of them, are in an order drawn for each image."""
    count, channels, height, width = images.shape
    side, generator = height // 4, torch.Generator().manual_seed(0)
    fields = images.view(count, channels, 4, side, 4, side).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(count, 16, generator=generator).argsort(dim=1)
    fields = fields[torch.arange(count)[:, None], order].view(count, 4, 4, channels, side, side)
    return fields.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, height, width)


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    damage.__name__: damage for damage in (displaced, brightened, blurred, half_swapped, texture_only)
}


def logit_gap(
    discriminator: Discriminator, real: Tensor, fake: Tensor, *, steps: int = 80, lr: float = 2e-4, held_out: int = 16
) -> float:
    """Train the head with the hinge loss and Adam (0, 0.99) to tell two sets apart; return its mean logits' gap.

    The sets are as large as each other; their last ``held_out`` images are not trained on, and the gap is measured on
    them, in training mode as the generator meets the head.
    """
    discriminator.train()
    with torch.no_grad():
        features = [[discriminator.features(batch) for batch in images.split(BATCH)] for images in (real, fake)]
    count = len(features[0]) - held_out // BATCH
    optimizer = torch.optim.Adam(discriminator.parameter_groups(), lr=lr, betas=(0.0, 0.99))
    for step in range(steps):
        logits = [discriminator.head(side[step % count]) for side in features]
        optimizer.zero_grad()
        Hinge().discriminator(real=logits[0], fake=logits[1]).backward()
        optimizer.step()
    with torch.no_grad():
        means = [torch.stack([discriminator.head(batch).mean() for batch in side[count:]]).mean() for side in features]
    return float(means[0] - means[1])
