"""The training step of a variational autoencoder (Kingma and Welling 2014, Auto-encoding variational Bayes).

    mean, log variance = encoder(real)
    images = generator(mean + deviation * noise)                    any generator is the decoder
    both networks descend on    |real - images|^2 / 2               minus log likelihood, normal of variance 1
                                + beta * KL(N(mean, variance), N(0, 1))
                                each summed over pixels or latent values, averaged over images

With ``beta`` of 1 this is minus the evidence lower bound (their equation 7) but for a constant; other values are those
of Higgins et al. 2017 (beta-VAE). Images are generated from the prior, as a GAN's are.

The encoder's part in options and validation: ``medsynth/lightning/encoding.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from medsynth.contracts import Encoder, Generator, InputError, Metrics, check_contract
from medsynth.encoder.posterior import divergence_from_prior, reconstruction_error, sampled
from medsynth.lightning.components import check_network
from medsynth.lightning.encoding import EncodingModule
from medsynth.lightning.microbatch import DrawnMicrobatch
from medsynth.lightning.schedules import Setter
from medsynth.lightning.single_update import SingleUpdateModule
from medsynth.runs.provenance import described_generator


class VAE(EncodingModule, SingleUpdateModule):
    """A generator as decoder, and its encoder.

    Args:
        generator: (z, labels) -> images.
        encoder: images -> mean and log variance of z.
        generator_optimizer: groups of parameters, of both networks -> optimizer.
        metrics: compares real and generated images in validation.
        beta: weight of the divergence from the prior; it can be scheduled, as ``task.beta``.
        options: those of ``GenerativeModule``.

    Raises:
        InputError: an option is out of range, or a component lacks a member of its contract.
    """

    def __init__(
        self,
        *,
        generator: Generator,
        encoder: Encoder,
        generator_optimizer: Callable[[Any], Optimizer],
        metrics: Metrics,
        beta: float = 1.0,
        **options: Any,
    ):
        if beta < 0:
            raise InputError(f"task.beta={beta} must be 0 or more.")
        check_network(generator, Generator, "generator")
        check_contract(metrics, Metrics, "metrics")
        super().__init__(
            networks={"generator": generator},
            encoder=encoder,
            optimizers={"generator": generator_optimizer},
            metrics=metrics,
            **options,
        )
        self.beta = beta

    def terms(self, microbatch: DrawnMicrobatch) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        mean, log_variance = self.encode(microbatch.real)
        images = self.generator(sampled(mean, log_variance, microbatch.z), microbatch.labels)
        error = reconstruction_error(microbatch.real, images.float())
        divergence = divergence_from_prior(mean, log_variance)
        loss = error + self.beta * divergence
        return {"generator_loss": loss, "reconstruction": error, "divergence": divergence}

    def own_quantities(self) -> dict[str, Setter]:
        """Return the setter of ``task.beta``."""
        return {"task.beta": functools.partial(setattr, self, "beta")}

    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""
        return f"{described_generator(self.generator)} as decoder of {type(self.encoder).__name__}, VAE"
