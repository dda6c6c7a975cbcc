"""The training step of a task that has one loss and one optimizer, such as ``vae.py`` and ``regression.py``."""

from __future__ import annotations

import abc

from torch import Tensor

from medsynth.contracts import Batch
from medsynth.lightning.distributed import average_batch_statistics
from medsynth.lightning.microbatch import DrawnMicrobatch, add_terms
from medsynth.lightning.module import GenerativeModule


class SingleUpdateModule(GenerativeModule):
    """One update for each batch, of the generator and of what its optimizer trains beside it."""

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Update the networks; return the values to log, by name."""
        scheduled = self.begin_step()
        microbatches = self.microbatches(DrawnMicrobatch, batch, noise_width=self.generator.latent_dim)
        values: dict[str, Tensor] = {}
        for microbatch in microbatches:
            terms = self.terms(microbatch)
            add_terms(values, terms, weight=microbatch.weight)
            self.descend("generator", terms["generator_loss"] * microbatch.weight)
        self.count_images(sum(microbatch.images for microbatch in microbatches))
        self.update("generator", values)
        average_batch_statistics(self.generator)
        self.update_ema()
        self.generator_updates += 1
        return values | scheduled

    @abc.abstractmethod
    def terms(self, microbatch: DrawnMicrobatch) -> dict[str, Tensor]:
        """Return the loss, ``generator_loss``, and its terms."""
