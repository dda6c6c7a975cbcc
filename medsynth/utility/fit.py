"""Training of one network for a number of steps that is the same for all arms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from medsynth.contracts import InputError, counter_seed


@dataclasses.dataclass(frozen=True)
class Fit:
    """Options of the training: AdamW with one cycle of the learning rate (Smith and Topin 2019).

    Raises:
        InputError: an option is out of range.
    """

    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be 1 or more.")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise InputError(
                f"learning_rate={self.learning_rate} must be above 0, and weight_decay={self.weight_decay} 0 or more."
            )


def fit(network: nn.Module, loss: Callable[[np.ndarray], Tensor], count: int, options: Fit, *, seed: int) -> None:
    """Train a network.

    Args:
        network: its parameters that require gradients are trained.
        loss: positions (batch,) among ``count`` examples -> the mean loss on these.
        count: of the examples, each of which is seen once before any is seen again.
        options: of the training.
        seed: of the order of the examples.

    Raises:
        InputError: the loss is not finite.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = max(options.steps, 10)  # of the cycle: a shorter one would have no rising part
    schedule = OneCycleLR(optimizer, max_lr=options.learning_rate, total_steps=steps, pct_start=0.2)
    network.train()
    for positions in batches(count, options, seed=seed):
        value = loss(positions)
        if not value.isfinite():
            raise InputError("A network's training has diverged: choose a smaller learning_rate.")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def batches(count: int, options: Fit, *, seed: int) -> Iterator[np.ndarray]:
    """Yield the positions of each step's examples, from one random order of all of them after the other."""
    needed = options.steps * options.batch_size
    random = np.random.default_rng(counter_seed("utility", "batches", seed))
    parts = [random.permutation(count) for _ in range(-(-needed // count))]
    yield from np.concatenate(parts)[:needed].reshape(options.steps, options.batch_size)


def seeded(seed: int) -> None:
    """Seed PyTorch for initial weights, dropout and augmentation."""
    torch.manual_seed(counter_seed("utility", "network", seed))
