"""The training step of translation from pairs (Isola et al. 2017, pix2pix): a GAN's, and the distance from the target.

    images = generator(source, z)
    the discriminator descends on   loss.discriminator(real=D(target | source), fake=D(images | source)) + penalties
    the generator descends on       loss.generator(fake=D(images | source))
                                    + the sum of the reconstruction terms of (images, target)
                                    + penalties of the generator

``D(. | source)``: a discriminator that is trained from pixels sees the source as further channels behind the image,
both augmented alike, so that it can tell whether the image is one of this source. A frozen network of natural images
has no channels for that: ``projected``, ``transfer`` and ``grid`` see the image alone, and ``vision_aided`` shows both
to its trained half and the image to its backbone. That an image suits its source is up to the other terms then.

The paper halves the discriminator's loss, to slow it down; Adam, which divides by the size of the gradients, takes no
notice of a factor, so that this is left out. Its equation 4 is ``loss=non_saturating reconstruction=l1``.

The step is that of ``medsynth/gan.py``; sources, measures and baseline: ``medsynth/lightning/translation.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medsynth.contracts import ReconstructionTerm, Translator
from medsynth.gan import GAN, Microbatch
from medsynth.lightning.translation import TranslationModule


class PairedTranslation(TranslationModule, GAN):
    """A translator against a discriminator, and reconstruction terms.

    Args:
        generator: source [and noise] -> images.
        reconstructions: terms of the generator's loss, by name.
        conditional_on_source: the discriminator is given the source behind the image; it has channels for both.
        options: those of ``GAN``.

    Raises:
        InputError: an option is out of range, or a component lacks a member of its contract.
    """

    def __init__(
        self,
        *,
        generator: Translator,
        reconstructions: Mapping[str, ReconstructionTerm],
        conditional_on_source: bool = True,
        **options: Any,
    ):
        super().__init__(generator=generator, reconstructions=reconstructions, **options)
        self._components = {**self._components, "reconstruction": self.target_terms}
        self.conditional_on_source = conditional_on_source

    def shown(self, images: Tensor, source: Tensor | None) -> Tensor:
        """Return what the discriminator is given: images (N, C, H, W), and behind them the source if it sees that."""
        if not self.conditional_on_source:
            return images
        assert source is not None
        return torch.cat([images, source.to(images)], dim=1)

    def generator_terms(self, microbatch: Microbatch) -> dict[str, Tensor]:
        """Return the loss with its penalties and reconstruction terms, and each of these alone."""
        assert microbatch.fake is not None
        terms = super().generator_terms(microbatch)
        reconstructions = self.reconstruction_terms(microbatch.fake, microbatch)
        for term in reconstructions.values():
            terms["generator_loss"] = terms["generator_loss"] + term
        return terms | reconstructions

    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""
        seen = "the source and the image" if self.conditional_on_source else "the image"
        reconstructions = "".join(f" + {name}" for name in self.target_terms)
        return f"{super().describe()}{reconstructions}, translation of pairs, of which the discriminator sees {seen}"
