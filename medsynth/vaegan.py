"""The training step of a VAE-GAN (Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric).

It is a GAN's step (``medsynth/gan.py``) whose generated images are reconstructions and samples of the prior, as many of
each, held against the real images twice. With features f, which the logits are computed of:

    mean, log variance = encoder(real)
    images = generator([mean + deviation * noise; noise])
    the discriminator descends on   loss.discriminator(real, images) + penalties
    the encoder descends on         |f(real) - f(reconstructions)|^2 / 2 + beta * KL(N(mean, variance), N(0, 1))
    the generator descends on       gamma * |f(real) - f(reconstructions)|^2 / 2 + loss.generator(real, images)
                                    + penalties of the generator

The paper's equation 8 has a sum of both kinds of generated images where this has a mean, so that real and generated
images weigh the same. Squares are summed over the features and averaged over the images.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from medsynth.contracts import Batch, Features, InputError, activations
from medsynth.encoder.posterior import divergence_from_prior, reconstruction_error, sampled
from medsynth.gan import GAN, Microbatch
from medsynth.lightning.encoding import EncodingModule
from medsynth.lightning.schedules import Setter


class VAEGAN(EncodingModule, GAN):
    """A generator as decoder, its encoder, and a discriminator whose features measure the error of reconstructions.

    Args:
        beta: weight of the divergence from the prior, for the encoder.
        gamma: weight of the error of reconstructions, for the generator.
        options: those of ``GAN`` and ``EncodingModule``.

    Raises:
        InputError: an option is out of range, or a component lacks a member of its contract.
    """

    def __init__(self, *, beta: float = 1.0, gamma: float = 1.0, **options: Any):
        for name, value in {"beta": beta, "gamma": gamma}.items():
            if value < 0:
                raise InputError(f"task.{name}={value} must be 0 or more.")
        super().__init__(**options)
        self.beta = beta
        self.gamma = gamma

    def own_quantities(self) -> dict[str, Setter]:
        """Return the setters of the task's options that can be scheduled."""
        own = {f"task.{name}": functools.partial(setattr, self, name) for name in ("beta", "gamma")}
        return super().own_quantities() | own

    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""
        return f"{type(self.encoder).__name__} and {super().describe()}, VAE-GAN"

    def draw(self, batch: Batch) -> list[Microbatch]:
        """Return this process's share of a batch, in microbatches that have each real image twice."""
        return [*self.microbatches(EncodedMicrobatch, batch, noise_width=2 * self.generator.latent_dim)]

    def generate(self, microbatch: Microbatch) -> None:
        """Generate reconstructions and as many samples of the prior, and compute their features."""
        assert isinstance(microbatch, EncodedMicrobatch)
        microbatch.posterior = self.encode(microbatch.real[: microbatch.images])
        noise, prior = microbatch.noise.chunk(2, dim=1)
        microbatch.z = torch.cat([sampled(*microbatch.posterior, noise), prior])
        super().generate(microbatch)

    def generator_terms(self, microbatch: Microbatch) -> dict[str, Tensor]:
        """Return the losses of generator and encoder, and their terms."""
        assert isinstance(microbatch, EncodedMicrobatch)
        terms = super().generator_terms(microbatch)
        error, divergence = self._feature_error(microbatch), divergence_from_prior(*microbatch.posterior)
        terms["generator_loss"] = terms["generator_loss"] + self.gamma * error
        encoder_loss = error + self.beta * divergence
        return terms | {"encoder_loss": encoder_loss, "reconstruction": error, "divergence": divergence}

    def descend_generator(self, terms: dict[str, Tensor], *, weight: float) -> None:
        """Add the gradients of each loss to its own network alone."""
        encoder, generator = list(self.encoder.parameters()), list(self.generator.parameters())
        self.descend("generator", terms["encoder_loss"] * weight, inputs=encoder, retain_graph=True)
        self.descend("generator", terms["generator_loss"] * weight, inputs=generator)

    def _feature_error(self, microbatch: EncodedMicrobatch) -> Tensor:
        """Return the error of the reconstructions, by what the discriminator computes its logits of."""
        assert microbatch.fake is not None
        if self.augmentations:  # which change an image and its reconstruction in different ways
            with torch.no_grad():
                real = self.discriminator.features(microbatch.real[: microbatch.images])
            made = self.discriminator.features(microbatch.fake[: microbatch.images])
        else:
            real, made = _first_half(microbatch.real_features), _first_half(microbatch.fake_features)
        with torch.no_grad():
            real = activations(self.discriminator, real, "task=vaegan")
        pairs = zip(real, activations(self.discriminator, made, "task=vaegan"), strict=True)
        return torch.stack([reconstruction_error(one.float(), other.float()) for one, other in pairs]).sum()


@dataclasses.dataclass
class EncodedMicrobatch(Microbatch):
    """A microbatch with each real image twice, for its reconstruction and a sample of the prior.

    ``noise`` has two rows of the noise's length for each image; ``posterior`` is mean and log variance.
    """

    noise: Tensor = dataclasses.field(init=False)
    posterior: tuple[Tensor, Tensor] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.noise = self.z
        self.real, self.index = torch.cat([self.real, self.real]), torch.cat([self.index, self.index])
        self.labels = None if self.labels is None else torch.cat([self.labels, self.labels])

    @property
    def images(self) -> int:
        """Number of real images."""
        return len(self.real) // 2


def _first_half(features: Features) -> Features:
    return tuple(tensor[: len(tensor) // 2] for tensor in features)
