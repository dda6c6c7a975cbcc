"""The training step of translation without pairs (Zhu et al. 2017, CycleGAN): two translators, two discriminators.

    images = generator(source)              sources made = inverse(target)
    both translators descend on   loss.generator(fake=D(images)) + loss.generator(fake=D_source(sources made))
                                  + cycle_weight * (|inverse(images) - source| + |generator(sources made) - target|)
                                  + cycle_weight * identity_weight * (|generator(target) - target|
                                                                      + |inverse(source) - source|)
    both discriminators descend on   loss.discriminator(real=D(target), fake=D(pool(images)))
                                     + loss.discriminator(real=D_source(source), fake=D_source(pool(sources made)))
                                     + penalties of both

The translators' update comes first, and the discriminators see what was made before it, half of it exchanged for
earlier images (``medsynth/lightning/image_pool.py``), as in the authors' program. Distances are means over pixels. The
target of a batch is any image of the other set: nothing compares it with the source.

The paper halves the discriminators' loss; Adam takes no notice of a factor, so that this is left out.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.backbone.survey import count_parameters
from medsynth.contracts import Batch, Discriminator, Features, InputError, Scheduled, Translator, counter_seed
from medsynth.gan import frozen, penalized_inputs
from medsynth.lightning.adversarial import AdversarialModule
from medsynth.lightning.components import check_network
from medsynth.lightning.distributed import average_batch_statistics
from medsynth.lightning.image_pool import ImagePool
from medsynth.lightning.microbatch import DrawnMicrobatch, add_terms
from medsynth.lightning.schedules import Setter
from medsynth.lightning.trainer_access import training_data
from medsynth.lightning.translation import TranslationModule


class UnpairedTranslation(TranslationModule, AdversarialModule):
    """Translators in both directions, each against a discriminator, and cycles that have to come back.

    Args:
        inverse: target -> source, of the same options as ``generator``.
        source_discriminator: sees sources, and what ``inverse`` makes.
        image_size: height and width in pixels.
        channels: channels of sources and targets.
        cycle_weight: of the distance of images that were translated there and back.
        identity_weight: of the distance by which images of the right kind are changed, times ``cycle_weight``.
        pool_size: generated images that are kept for the discriminators, in each direction.
        options: those of ``AdversarialModule``.

    Raises:
        InputError: an option is out of range, a component lacks a member of its contract or follows the logits of one
            discriminator, or sources have other channels than targets.
    """

    inverse: Translator
    source_discriminator: Discriminator

    def __init__(
        self,
        *,
        inverse: Translator,
        source_discriminator: Discriminator,
        image_size: int,
        channels: int,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        pool_size: int = 50,
        channels_last: bool = False,
        **options: Any,
    ):
        numbers = {"cycle_weight": cycle_weight, "identity_weight": identity_weight, "pool_size": pool_size}
        for name, value in numbers.items():
            if value < 0:
                raise InputError(f"task.{name}={value} must be 0 or more.")
        check_network(inverse, Translator, "generator")
        check_network(source_discriminator, Discriminator, "discriminator")
        super().__init__(channels_last=channels_last, **options)
        sources = self.generator.source_channels
        if sources != channels:
            raise InputError(
                f"task=unpaired_translation translates in both directions, and sources have {sources} channels where "
                f"targets have {channels}: choose data with equal channels."
            )
        if self.adaptive:
            raise InputError(
                f"{next(iter(self.adaptive))} follows the logits of one discriminator, and task=unpaired_translation "
                "has two: leave it out."
            )
        for network in (inverse, source_discriminator):
            assert isinstance(network, nn.Module)
            if channels_last:
                network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # its stub lacks it
        self.inverse, self.source_discriminator = inverse, source_discriminator
        if isinstance(source_discriminator, Scheduled):
            self._advancing.append(source_discriminator)
        self.pool, self.source_pool = (ImagePool(pool_size, channels=channels, image_size=image_size) for _ in range(2))
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Update both translators, then both discriminators; return the values to log, by name."""
        scheduled = self.begin_step()
        width = self.generator.latent_dim + self.inverse.latent_dim
        microbatches = self.microbatches(BothWays, batch, noise_width=width)
        values: dict[str, Tensor] = {}
        with frozen(self.discriminator), frozen(self.source_discriminator):
            for microbatch in microbatches:
                terms = self._generator_terms(microbatch)
                add_terms(values, terms, weight=microbatch.weight)
                self.descend("generator", terms["generator_loss"] * microbatch.weight)
        self.update("generator", values)
        self._exchange(microbatches)
        for microbatch in microbatches:
            terms = self._discriminator_terms(microbatch)
            add_terms(values, terms, weight=microbatch.weight)
            self.descend("discriminator", terms["discriminator_loss"] * microbatch.weight)
        self.update("discriminator", values)
        self.count_images(sum(microbatch.images for microbatch in microbatches))
        for network in (self.generator, self.inverse, self.discriminator, self.source_discriminator):
            average_batch_statistics(network)
        self.update_ema()
        self.generator_updates += 1
        self.discriminator_updates += 1
        return values | scheduled

    # ---- the translators' update -------------------------------------------------------------------------------------

    def _generator_terms(self, microbatch: BothWays) -> dict[str, Tensor]:
        """Return the loss of both translators and its terms."""
        source, target = microbatch.source, microbatch.real
        assert source is not None
        z, z_back = microbatch.z.split([self.generator.latent_dim, self.inverse.latent_dim], dim=1)
        made, back = self.generator(source, z), self.inverse(target, z_back)
        adversarial = self._adversarial(self.discriminator, made, target)
        adversarial = adversarial + self._adversarial(self.source_discriminator, back, source)
        cycle = _distance(self.inverse(made), source) + _distance(self.generator(back), target)
        terms = {"generator_loss": adversarial + self.cycle_weight * cycle, "adversarial": adversarial, "cycle": cycle}
        if self.identity_weight > 0:
            terms["identity"] = _distance(self.generator(target), target) + _distance(self.inverse(source), source)
            weight = self.cycle_weight * self.identity_weight
            terms["generator_loss"] = terms["generator_loss"] + weight * terms["identity"]
        microbatch.made, microbatch.back = made.detach().float(), back.detach().float()
        return terms

    def _adversarial(self, discriminator: Discriminator, fake: Tensor, real: Tensor) -> Tensor:
        """Return the loss of the translator that has made ``fake`` to be like ``real``."""
        real_logits = None
        if self.loss.relativistic:
            with torch.no_grad():
                real_logits = _logits(discriminator, self._features(discriminator, real))
        return self.loss.generator(real=real_logits, fake=_logits(discriminator, self._features(discriminator, fake)))

    def _features(self, discriminator: Discriminator, images: Tensor) -> Features:
        return discriminator.features(self.augmented(images))

    # ---- the discriminators' update ----------------------------------------------------------------------------------

    def _exchange(self, microbatches: list[BothWays]) -> None:
        """Exchange images that were made in this step for those of the pools."""
        place = {"rank": self.global_rank, "world_size": self.trainer.world_size}
        counts = [microbatch.images for microbatch in microbatches]
        for name, pool in (("made", self.pool), ("back", self.source_pool)):
            whole = torch.cat([getattr(microbatch, name) for microbatch in microbatches])
            seed = counter_seed(name, self.seed, self.images_seen)
            for microbatch, images in zip(
                microbatches, pool.exchange(whole, seed=seed, **place).split(counts), strict=True
            ):
                setattr(microbatch, name, images)

    def _discriminator_terms(self, microbatch: BothWays) -> dict[str, Tensor]:
        """Return the loss of both discriminators with their penalties, each penalty alone, and means of the logits."""
        assert microbatch.source is not None
        sides = (
            self._side_terms(self.discriminator, microbatch.real, microbatch.made),
            self._side_terms(self.source_discriminator, microbatch.source, microbatch.back),
        )
        terms = {name: sides[0][name] + sides[1][name] for name in sides[0]}
        return terms | {name: terms[name] / 2 for name in ("real_logits", "fake_logits")}

    def _side_terms(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            real_features, fake_features = (self._features(discriminator, images) for images in (real, fake))
        real_logits, fake_logits = _logits(discriminator, real_features), _logits(discriminator, fake_features)
        terms = {"discriminator_loss": self.loss.discriminator(real=real_logits, fake=fake_logits)}
        for name, penalty in self.penalties.items():
            if (self.discriminator_updates + 1) % penalty.interval:
                continue
            if penalty.at == "logits":
                terms[name] = penalty(real=real_logits, fake=fake_logits)
            elif penalty.at == "images":
                raise InputError(
                    f"penalty={name} compares images of one discriminator, and there are two: leave it out."
                )
            else:
                with torch.autocast(self.device.type, enabled=False):
                    inputs = penalized_inputs(penalty, real_features, fake_features)
                    terms[name] = penalty(inputs=inputs, logits=_logits(discriminator, inputs))
            terms["discriminator_loss"] = terms["discriminator_loss"] + terms[name] * penalty.interval
        return terms | {"real_logits": real_logits.mean(), "fake_logits": fake_logits.mean()}

    # ---- around the step ---------------------------------------------------------------------------------------------

    def own_quantities(self) -> dict[str, Setter]:
        """Return the setters of the weights; the options of ``GAN`` that others have, such as ``top_k``, are not."""
        return {f"task.{name}": functools.partial(setattr, self, name) for name in ("cycle_weight", "identity_weight")}

    def parameter_groups(self, network: str) -> list[dict[str, Any]]:
        """Return the trained parameters of both translators, or of both discriminators, as an optimizer's groups."""
        groups = super().parameter_groups(network)
        if network == "generator":
            return [*groups, {"params": list(self.inverse.parameters())}]
        return [*groups, *self.source_discriminator.parameter_groups()]

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network, by name."""
        others = {"inverse": self.inverse, "source_discriminator": self.source_discriminator}
        return {**super().parameter_counts(), **{name: count_parameters(network) for name, network in others.items()}}

    def on_train_start(self) -> None:
        """Prepare both discriminators."""
        super().on_train_start()
        if self.images_seen == 0:
            batches = training_data(self.trainer).calibration_batches(8)
            self.source_discriminator.calibrate([batch["image"].to(self.device) for batch in batches])

    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""
        return f"{super().describe()} + cycle, in both directions, translation without pairs"


@dataclasses.dataclass
class BothWays(DrawnMicrobatch):
    """A microbatch with what was made of its sources, and of its targets, in this step or before."""

    made: Tensor = dataclasses.field(init=False)
    back: Tensor = dataclasses.field(init=False)


def _distance(images: Tensor, others: Tensor) -> Tensor:
    return (images.float() - others).abs().mean()


def _logits(discriminator: Discriminator, features: Features) -> Tensor:
    return discriminator.head(features, None).float()
