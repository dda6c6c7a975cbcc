"""Balanced consistency regularization (bCR: Zhao et al. 2021, "Improved consistency regularization for GANs")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from medsynth.contracts import Adaptive, Augmentation, InputError


class Consistency:
    """``real_weight * E[(D(x) - D(T(x)))^2] + fake_weight * E[(D(G(z)) - D(T(G(z))))^2]`` (Zhao et al. 2021, bCR).

    T is an augmentation under which the logits are not to change, on both sides, so that its traces do not appear in
    the generated images (algorithm 1 of the paper, whose T is a shift by a few pixels and a mirroring; there is none
    here, since anatomy has sides). D(x) and D(G(z)) are the logits that the loss is computed of: with ``augment=``
    those of the images augmented by it. Only the images T(x) and T(G(z)) pass the discriminator once more.

    Args:
        augmentations: T, applied in turn, by name.
        real_weight: of the term of real images; 10 in the paper.
        fake_weight: of the term of generated images; 10 in the paper.
        interval: the term enters every so many discriminator updates, multiplied by this number.

    Raises:
        InputError: there is no augmentation, or one that adapts to the logits, which it is not shown here.
    """

    at: Literal["images"] = "images"

    def __init__(
        self,
        *,
        augmentations: Mapping[str, Augmentation],
        real_weight: float = 10.0,
        fake_weight: float = 10.0,
        interval: int = 1,
    ):
        adaptive = [name for name, augmentation in augmentations.items() if isinstance(augmentation, Adaptive)]
        if adaptive or not augmentations:
            raise InputError(
                f"augment@penalty.consistency.augmentations={adaptive[0] if adaptive else 'none'} never changes images "
                "here: choose translation, translation_cutout, diffaugment or instance_noise."
            )
        self.augmentations = dict(augmentations)
        self.real_weight = real_weight
        self.fake_weight = fake_weight
        self.interval = interval

    def __call__(
        self,
        *,
        real: Tensor,
        fake: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor,
        logits: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the term, a scalar with its graph."""
        of_real = (real_logits - logits(self._augmented(real))).square().mean()
        of_fake = (fake_logits - logits(self._augmented(fake))).square().mean()
        return self.real_weight * of_real + self.fake_weight * of_fake

    def _augmented(self, images: Tensor) -> Tensor:
        for augmentation in self.augmentations.values():
            images = augmentation(images)
        return images
