"""The training step of regression: a translator learns its targets by the distance of pixels alone, without a GAN.

    images = generator(source)
    the generator descends on   the sum of the reconstruction terms of (images, target)

With ``reconstruction=l2`` its images approach the mean of all targets that a source can have, with ``l1`` the median:
blurred where the source leaves open what the target is, and by construction the best in these measures. It is the
baseline that a GAN's translation has to be compared with.

Sources, measures and the other baseline, the source itself: ``medsynth/lightning/translation.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsynth.contracts import Batch, InputError, Metrics, ReconstructionTerm, Translator, check_contract
from medsynth.lightning.components import check_network
from medsynth.lightning.distributed import average_batch_statistics
from medsynth.lightning.microbatch import DrawnMicrobatch, add_terms
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.translation import TranslationModule
from medsynth.runs.provenance import described_generator


class Regression(TranslationModule, GenerativeModule):
    """A translator and its reconstruction terms.

    Args:
        generator: source -> images.
        reconstructions: terms by name; at least one.
        generator_optimizer: groups of parameters -> optimizer.
        metrics: compares real and translated images in validation.
        options: those of ``GenerativeModule``.

    Raises:
        InputError: there is no term, or a component lacks a member of its contract.
    """

    def __init__(
        self,
        *,
        generator: Translator,
        reconstructions: Mapping[str, ReconstructionTerm],
        generator_optimizer: Callable[[Any], Optimizer],
        metrics: Metrics,
        **options: Any,
    ):
        if not reconstructions:
            raise InputError("task=regression learns from reconstruction terms alone: choose reconstruction=l1.")
        check_network(generator, Translator, "generator")
        check_contract(metrics, Metrics, "metrics")
        super().__init__(
            networks={"generator": generator},
            reconstructions=reconstructions,
            optimizers={"generator": generator_optimizer},
            metrics=metrics,
            components={"reconstruction": reconstructions},
            **options,
        )

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Update the translator; return the values to log, by name."""
        scheduled = self.begin_step()
        microbatches = self.microbatches(DrawnMicrobatch, batch, noise_width=self.generator.latent_dim)
        values: dict[str, Tensor] = {}
        for microbatch in microbatches:
            terms = self._terms(microbatch)
            add_terms(values, terms, weight=microbatch.weight)
            self.descend("generator", terms["generator_loss"] * microbatch.weight)
        self.count_images(sum(microbatch.images for microbatch in microbatches))
        self.update("generator", values)
        average_batch_statistics(self.generator)
        self.update_ema()
        self.generator_updates += 1
        return values | scheduled

    def _terms(self, microbatch: DrawnMicrobatch) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        images = self.made_by(self.generator, microbatch.z, None, microbatch.source)
        terms = self.reconstruction_terms(images, microbatch)
        return {"generator_loss": torch.stack(list(terms.values())).sum(), **terms}

    def describe(self) -> str:
        """Describe the network and what it minimizes in one phrase."""
        return f"{described_generator(self.generator)}, regression by {' + '.join(self.target_terms)}"
