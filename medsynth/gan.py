"""The training step of a GAN: an update of the discriminator, then one of the generator.

Every discriminator is a frozen part, ``features``, and a trained part, ``head``; a plain one has the identity for
``features``. So one step serves them all, with one pass of the generator and one of the frozen part over each image:

    fake_features = features(augment(generator(z)))             graph kept, for the generator's update
    real_features = features(augment(real))                     no graph; or read from the feature cache
    the discriminator descends on   loss.discriminator(real=head(real_features), fake=head(detached fake_features))
                                    + penalties with respect to the head's inputs;
                                    not while it leads by more than task.discriminator_margin
    the generator descends on       loss.generator(real=head(real_features), fake=head(fake_features)),
                                    the head just updated and frozen, or with task.unrolled_steps as it would be after
                                    as many further steps (medsynth/discriminator/unrolling.py);
                                    real alone where the loss compares;
                                    with task.top_k below 1 of the fakes with the highest logits;
                                    + penalties of the generator

An auxiliary classifier (discriminator.classifier) adds to both losses task.class_weight times the cross-entropy of the
classes, of real and generated images for the discriminator, of generated ones for the generator.

Options, preparation and the feature cache: ``medsynth/lightning/adversarial.py``; updates, as of every task:
``medsynth/lightning/updating.py``; checkpoints and validation: ``medsynth/lightning/module.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from medsynth.contracts import (
    AuxiliaryClassifier,
    Batch,
    Features,
    GeneratorUpdate,
    ImagePenalty,
    Network,
    Penalty,
    PerturbedPenalty,
)
from medsynth.lightning.adversarial import AdversarialModule
from medsynth.lightning.distributed import average_batch_statistics
from medsynth.lightning.microbatch import DrawnMicrobatch, add_terms


class GAN(AdversarialModule):
    """Adversarial training of a generator against a discriminator; for its options see ``AdversarialModule``."""

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Update the discriminator and, every ``discriminator_steps`` updates, the generator.

        Returns the values to log, by name.
        """
        scheduled = self.begin_step()
        microbatches = self.draw(batch)
        generator_turn = (self.discriminator_updates + 1) % self.discriminator_steps == 0
        # One graph of the fakes serves both updates; the graphs of several microbatches would not fit in memory at the
        # same time, so that their fakes are generated again.
        share_graph = generator_turn and len(microbatches) == 1

        values = self._update_discriminator(microbatches, keep_graph=share_graph)
        self.count_images(sum(microbatch.images for microbatch in microbatches))
        adapted = self.adapt(values)
        if generator_turn:
            self._update_generator(microbatches, values, have_graph=share_graph)
        return values | adapted | scheduled

    # ---- the data of a step ------------------------------------------------------------------------------------------

    def draw(self, batch: Batch) -> list[Microbatch]:
        """Return this process's share of a batch in microbatches, with noise for each image."""
        return self.microbatches(Microbatch, batch, noise_width=self.generator.latent_dim)

    def generate(self, microbatch: Microbatch) -> None:
        """Generate images, and compute the features that the discriminator sees of them."""
        microbatch.fake = self.made_by(self.generator, microbatch.z, microbatch.labels, microbatch.source)
        shown = self.shown(microbatch.fake, microbatch.source)
        microbatch.fake_features = self.discriminator.features(self.augmented(shown))

    @torch.no_grad()
    def _real_features(self, microbatch: Microbatch) -> Features:
        if self.cached_features is not None:
            return self.cached_features.read(microbatch.index)
        return self.discriminator.features(self.augmented(self.shown(microbatch.real, microbatch.source)))

    # ---- the discriminator's update ----------------------------------------------------------------------------------

    def _update_discriminator(self, microbatches: list[Microbatch], *, keep_graph: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for microbatch in microbatches:
            with torch.set_grad_enabled(keep_graph):
                self.generate(microbatch)
            microbatch.real_features = self._real_features(microbatch)
            terms = self._discriminator_terms(microbatch)
            add_terms(values, terms, weight=microbatch.weight)
            self.descend("discriminator", terms["discriminator_loss"] * microbatch.weight)
            if not keep_graph:
                microbatch.fake, microbatch.fake_features = None, ()  # to save memory is the purpose of microbatches
        self.update("discriminator", values)
        self.clip_weights()
        average_batch_statistics(self.discriminator)
        self.discriminator_updates += 1
        return values

    def _discriminator_terms(self, microbatch: Microbatch) -> dict[str, Tensor]:
        """Return the loss with its penalties, each penalty alone, and means of the logits."""
        labels, real = microbatch.labels, microbatch.real_features
        fake = tuple(tensor.detach() for tensor in microbatch.fake_features)
        real_logits, real_error = self._outputs(real, labels)
        fake_logits, fake_error = self._outputs(fake, labels)
        terms = {"discriminator_loss": self.loss.discriminator(real=real_logits, fake=fake_logits)}
        if self.classifies:
            terms["discriminator_loss"] = terms["discriminator_loss"] + self.class_weight * (real_error + fake_error)
            terms |= {"classes_real": real_error, "classes_fake": fake_error}
        for name, penalty in self.penalties.items():
            if (self.discriminator_updates + 1) % penalty.interval:
                continue
            if penalty.at == "logits":
                terms[name] = penalty(real=real_logits, fake=fake_logits)
            elif penalty.at == "images":
                terms[name] = self._image_term(penalty, microbatch, real_logits, fake_logits)
            else:
                terms[name] = self._penalty_term(penalty, real, fake, labels)
            terms["discriminator_loss"] = terms["discriminator_loss"] + terms[name] * penalty.interval
        if self.adaptive:
            boundary = fake_logits if self.loss.boundary is None else self.loss.boundary
            terms["real_signs"] = (real_logits - boundary).sign().mean()
        return terms | {"real_logits": real_logits.mean(), "fake_logits": fake_logits.mean()}

    def _penalty_term(self, penalty: Penalty, real: Features, fake: Features, labels: Tensor | None) -> Tensor:
        # In float32 at all times: a gradient's gradient does not survive bfloat16.
        with torch.autocast(self.device.type, enabled=False):
            inputs = penalized_inputs(penalty, real, fake)
            return penalty(inputs=inputs, logits=self._head(inputs, labels))

    def _image_term(self, penalty: ImagePenalty, microbatch: Microbatch, real: Tensor, fake: Tensor) -> Tensor:
        def logits(images: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.discriminator.features(images)
            return self._head(features, microbatch.labels)

        assert microbatch.fake is not None
        sides = {"real": microbatch.real, "fake": microbatch.fake.detach()}
        images = {name: self.shown(side, microbatch.source) for name, side in sides.items()}
        return penalty(**images, real_logits=real, fake_logits=fake, logits=logits)

    def _outputs(self, features: Features, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the logits, and the cross-entropy of the classes, 0 without an auxiliary classifier."""
        if not self.classifies:
            return self._head(features, labels), torch.zeros((), device=self.device)
        assert isinstance(self.discriminator, AuxiliaryClassifier)
        assert labels is not None
        logits, classes = self.discriminator.head_with_classes(features)
        return logits.float(), cross_entropy(classes.float(), labels)

    def _head(self, features: Features, labels: Tensor | None) -> Tensor:
        return self.discriminator.head(features, labels).float()

    # ---- the generator's update --------------------------------------------------------------------------------------

    def _update_generator(self, microbatches: list[Microbatch], values: dict[str, Tensor], *, have_graph: bool) -> None:
        with frozen(self.discriminator):
            for microbatch in microbatches:
                if not have_graph:
                    self.generate(microbatch)
                terms = self.generator_terms(microbatch)
                add_terms(values, terms, weight=microbatch.weight)
                self.descend_generator(terms, weight=microbatch.weight)
                microbatch.fake, microbatch.fake_features, microbatch.real_features = None, (), ()
        self.update("generator", values)
        average_batch_statistics(self.generator)
        self.update_ema()
        self.adapt_generator(values)
        self.generator_updates += 1

    def generator_terms(self, microbatch: Microbatch) -> dict[str, Tensor]:
        """Return the loss with its penalties, and each penalty alone."""
        terms = {"generator_loss": self._generator_loss(microbatch)}
        if self.classifies:
            _, error = self._outputs(microbatch.fake_features, microbatch.labels)
            terms["generator_loss"] = terms["generator_loss"] + self.class_weight * error
        for name, penalty in self.generator_penalties.items():
            if (self.generator_updates + 1) % penalty.interval == 0:
                terms[name] = penalty(self._generator_update(microbatch))
                terms["generator_loss"] = terms["generator_loss"] + terms[name] * penalty.interval
                if name in self.adaptive_generator:
                    terms[f"{name}_measured"] = self.adaptive_generator[name].measured
        return terms

    def descend_generator(self, terms: dict[str, Tensor], *, weight: float) -> None:
        """Add the gradients of the generator's loss."""
        self.descend("generator", terms["generator_loss"] * weight)

    def _generator_update(self, microbatch: Microbatch) -> GeneratorUpdate:
        assert microbatch.fake is not None
        return GeneratorUpdate(
            generator=self.generator,
            discriminator=self.discriminator,
            z=microbatch.z,
            labels=microbatch.labels,
            images=microbatch.fake,
            fake=microbatch.fake_features,
            real=microbatch.real_features,
        )

    def _generator_loss(self, microbatch: Microbatch) -> Tensor:
        real, fake, labels = microbatch.real_features, microbatch.fake_features, microbatch.labels
        head = self.unrolled_head(real=real, fake=fake, labels=labels) if self.unrolled_head else self._head
        real_logits = None
        if self.loss.relativistic:
            with torch.set_grad_enabled(self.unrolled_head is not None):  # it depends on the fakes
                real_logits = head(real, labels)
        fake_logits = head(fake, labels)
        if self.top_k < 1:
            best = best_rows(fake_logits, self.top_k)
            fake_logits, real_logits = fake_logits[best], None if real_logits is None else real_logits[best]
        return self.loss.generator(real=real_logits, fake=fake_logits)


@dataclasses.dataclass
class Microbatch(DrawnMicrobatch):
    """A microbatch with what has been computed of it."""

    fake: Tensor | None = None
    fake_features: Features = ()
    real_features: Features = ()


@contextlib.contextmanager
def frozen(network: Network) -> Generator[None]:
    """Freeze the weights of ``network``: gradients pass through it, and none are computed for it.

    Weights that require no gradient are also not taken from autocast's cache, which holds them as before their update.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def best_rows(logits: Tensor, fraction: float) -> Tensor:
    """Return the numbers of the rows of ``logits`` (N, K) with the highest means: ``fraction`` of them, at least one.

    The generator's top-k update (Sinha et al. 2020) drops the others, whose gradients point away from the
    nearest mode. A relativistic loss compares the remaining images with the real ones of the same rows and labels.
    """
    count = max(1, round(fraction * len(logits)))
    return logits.detach().mean(dim=1).topk(count).indices


def penalized_inputs(penalty: Penalty, real: Features, fake: Features) -> Features:
    """Return the head's inputs at which a penalty is taken, detached, float32, requiring a gradient."""
    real, fake = (tuple(tensor.detach().float() for tensor in features) for features in (real, fake))
    if penalty.at == "between":
        position = torch.rand(len(real[0]), device=real[0].device)
        inputs = tuple(
            torch.lerp(r, f, position.view(-1, *[1] * (r.dim() - 1))) for r, f in zip(real, fake, strict=True)
        )
    elif penalty.at == "perturbed":
        assert isinstance(penalty, PerturbedPenalty)
        inputs = tuple(r + penalty.perturbation * r.std(correction=0) * torch.randn_like(r) for r in real)
    else:
        inputs = {"real": real, "fake": fake}[penalty.at]
    return tuple(tensor.requires_grad_(True) for tensor in inputs)
