"""The parts of a step that change images or values in the course of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Augmentation(Protocol):
    """``images (N, C, H, W) -> images of the same shape``, differentiable; each image draws its own parameters.

    It is applied inside the step, to real and generated images alike, and both networks train on its output. Random
    numbers come from PyTorch's global generator, which the step seeds by its counters.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Return the augmented images."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """The value of a learning rate, a penalty's weight or the like as a function of the images seen, without state."""

    def __call__(self, images_seen: int) -> float:
        """Return the value after ``images_seen`` real images."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """A discriminator, loss, penalty or augmentation that changes by itself in the course of the training.

    ``advance`` comes before each step. Its effect must depend on the count alone, so that a resumed run is exact.
    """

    def advance(self, images_seen: int) -> None:
        """Take the state that belongs to ``images_seen`` real images."""
        ...


@runtime_checkable
class Adaptive(Protocol):
    """A penalty or augmentation that follows the discriminator's logits.

    ``observe`` comes after each discriminator update, with means over its batch, all processes together:
    ``real_logits`` and ``fake_logits``, and ``real_signs``, of the signs of the real logits minus ``Loss.boundary``
    (where that is None, minus a generated image's). Its effect must depend on these and on the state alone, which is
    numbers by name and kept in each checkpoint, so that a resumed run is exact.
    """

    def observe(self, *, real_logits: float, fake_logits: float, real_signs: float) -> Mapping[str, float]:
        """Take the means of one discriminator update; return values to log, by name."""
        ...

    def state_dict(self) -> dict[str, float]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take the state of a checkpoint."""
        ...
