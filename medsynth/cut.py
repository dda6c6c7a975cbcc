"""The training step of CUT (Park et al. 2020, Contrastive learning for unpaired image-to-image translation).

It is a GAN's step (``medsynth/gan.py``) whose images are translations, and which holds a translation to its source by
patches: with e, the maps of the translator's own encoder, and h, two linear layers for each of them,

    images = generator(source)
    the discriminator descends on   loss.discriminator(real=D(target), fake=D(images)) + penalties
    the generator and h descend on  loss.generator(fake=D(images)) + nce_weight * NCE(source, images)
                                    + identity_weight * NCE(target, generator(target))

``NCE(a, b)``: a patch of b is to be more like that of a at the same place than like others of a, by h(e(.)) at
``patches`` random places of each map; the mean over maps. Gradients go through the patches of b alone, as in the
authors' program, which takes the mean of both terms: weights of 0.5 are its own. The target of a batch is any image of
the other set. There is one translator and one discriminator, half of CycleGAN's work.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth.contracts import HasEncoding, InputError, Translator, check_contract
from medsynth.gan import GAN, Microbatch
from medsynth.layers.patch_nce import PatchFeatures, draw_positions, patch_nce
from medsynth.lightning.translation import TranslationModule


class CUT(TranslationModule, GAN):
    """A translator against a discriminator, held to its sources by contrasting patches.

    Args:
        generator: source [and noise] -> images, with an ``encoding`` (``contracts.HasEncoding``).
        nce_weight: of the term of sources and translations.
        identity_weight: of the term of targets and their translations, which are to be the targets; 0: none (FastCUT).
        temperature: by which similarities are divided.
        patches: places of each map that are compared.
        patch_features: length of a patch's features.
        options: those of ``GAN``.

    Raises:
        InputError: an option is out of range, a component lacks a member of its contract, or sources have other
            channels than targets where ``identity_weight`` is not 0.
    """

    def __init__(
        self,
        *,
        generator: Translator,
        channels: int,
        nce_weight: float = 0.5,
        identity_weight: float = 0.5,
        temperature: float = 0.07,
        patches: int = 256,
        patch_features: int = 256,
        **options: Any,
    ):
        for name, value in (("nce_weight", nce_weight), ("identity_weight", identity_weight)):
            if value < 0:
                raise InputError(f"task.{name}={value} must be 0 or more.")
        for name, value in (("temperature", temperature), ("patches", patches - 1), ("patch_features", patch_features)):
            if value <= 0:
                raise InputError(
                    f"task.{name} is too small: the paper has temperature=0.07 patches=256 patch_features=256."
                )
        check_contract(generator, HasEncoding, "generator")
        assert isinstance(generator, HasEncoding)
        super().__init__(generator=generator, **options)
        if generator.source_channels != channels:
            raise InputError(
                f"task=cut compares patches of sources, which have {generator.source_channels} channels, with those of "
                f"images, which have {channels}: choose data with equal channels."
            )
        self.patch_features = PatchFeatures(generator.encoding_channels, width=patch_features)
        self.nce_weight, self.identity_weight = nce_weight, identity_weight
        self.temperature, self.patches = temperature, patches

    def generator_terms(self, microbatch: Microbatch) -> dict[str, Tensor]:
        """Return the loss with its penalties and contrastive terms, and each of these alone."""
        assert microbatch.fake is not None
        assert microbatch.source is not None
        terms = super().generator_terms(microbatch)
        terms["nce"] = self._contrast(microbatch.source, microbatch.fake)
        terms["generator_loss"] = terms["generator_loss"] + self.nce_weight * terms["nce"]
        if self.identity_weight > 0:
            same = self.made_by(self.generator, microbatch.z, None, microbatch.real)
            terms["identity_nce"] = self._contrast(microbatch.real, same)
            terms["generator_loss"] = terms["generator_loss"] + self.identity_weight * terms["identity_nce"]
        return terms

    def _contrast(self, source: Tensor, images: Tensor) -> Tensor:
        """Return the mean over maps of the contrastive distance of ``images`` from what they were made of."""
        assert isinstance(self.generator, HasEncoding)
        with torch.no_grad():
            maps = self.generator.encoding(source)
            positions = draw_positions(maps, self.patches)
            keys = self.patch_features(maps, positions)
        queries = self.patch_features(self.generator.encoding(images), positions)
        pairs = zip(queries, keys, strict=True)
        return torch.stack([patch_nce(query, key, temperature=self.temperature) for query, key in pairs]).mean()

    def parameter_groups(self, network: str) -> list[dict[str, Any]]:
        """Return the trained parameters of a network as an optimizer's groups; the patches' are with the generator."""
        groups = super().parameter_groups(network)
        return [*groups, {"params": list(self.patch_features.parameters())}] if network == "generator" else groups

    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""
        return f"{super().describe()} + contrasted patches, translation without pairs"
