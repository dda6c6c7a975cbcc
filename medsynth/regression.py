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

from medsynth.contracts import InputError, Metrics, ReconstructionTerm, Translator, check_contract
from medsynth.lightning.components import check_network
from medsynth.lightning.microbatch import DrawnMicrobatch
from medsynth.lightning.single_update import SingleUpdateModule
from medsynth.lightning.translation import TranslationModule
from medsynth.runs.provenance import described_generator


class Regression(TranslationModule, SingleUpdateModule):
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

    def terms(self, microbatch: DrawnMicrobatch) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        images = self.made_by(self.generator, microbatch.z, None, microbatch.source)
        terms = self.reconstruction_terms(images, microbatch)
        return {"generator_loss": torch.stack(list(terms.values())).sum(), **terms}

    def describe(self) -> str:
        """Describe the network and what it minimizes in one phrase."""
        return f"{described_generator(self.generator)}, regression by {' + '.join(self.target_terms)}"
