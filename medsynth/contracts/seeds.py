"""Seeds and noise that follow from counters."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def counter_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all ``parts`` and nothing else.

    All randomness of a run is derived from counters (seed, epoch, index or step) instead of a generator's running
    state, so that a resumed run continues bit for bit and results do not depend on the number of workers.
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def noise(num_samples: int, latent_dim: int, *, seed: int, start: int = 0) -> Tensor:
    """Return standard normal noise ``(num_samples, latent_dim)`` on the CPU; row i depends on (seed, start + i) alone.

    The rows are the same for any batch size, device and number of processes.
    """
    rows = torch.empty(num_samples, latent_dim)
    generator = torch.Generator()
    for row in range(num_samples):
        generator.manual_seed(counter_seed("noise", seed, start + row))
        rows[row].normal_(generator=generator)
    return rows
