"""Pool of earlier generated images, of which a discriminator learns too (Shrivastava et al. 2017; CycleGAN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth.contracts import counter_seed
from medsynth.lightning.distributed import gathered, share


class ImagePool(nn.Module):
    """Up to ``size`` images that were generated before: half of the new ones change places with one of them.

    Until it is full, images are kept and returned as they are. Afterwards each is returned itself, or, as often, an
    image of the pool is, whose place it takes. All processes have the same pool, of the whole batch, in the order of
    the batch, and choices follow from a counter alone; its images are in the checkpoints. So a resumed run is exact,
    and the number of processes changes nothing.

    Args:
        size: number of images; 0: every image is returned as it is.
        channels: channels of the images.
        image_size: height and width in pixels.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, *, channels: int, image_size: int):
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, channels, image_size, image_size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, images: Tensor, *, seed: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """Return as many images as are given, new and earlier ones.

        Args:
            images: this process's share of the batch (N, C, H, W).
            seed: of the choices.
            rank: number of this process.
            world_size: number of processes.
        """
        if self.size == 0:
            return images
        whole = gathered(images.float(), rank, world_size)
        generator, chosen = torch.Generator(), whole.clone()
        number = int(self.count)  # once: on a GPU it waits for all work before
        for row, image in enumerate(whole):
            generator.manual_seed(counter_seed("pool", seed, row))
            if number < self.size:
                self.images[number] = image
                number += 1
            elif torch.rand((), generator=generator) > 0.5:
                place = int(torch.randint(self.size, (), generator=generator))
                chosen[row] = self.images[place]
                self.images[place] = image
        self.count.fill_(number)
        return share(chosen, rank, world_size)
