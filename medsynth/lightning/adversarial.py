"""The LightningModule beneath the GAN: what a discriminator adds to the base of every task.

The step itself is in ``medsynth/gan.py``, the base in ``medsynth/lightning/module.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medsynth.contracts import (
    Adaptive,
    AdaptiveGeneratorPenalty,
    Augmentation,
    AuxiliaryClassifier,
    Batch,
    Discriminator,
    Generator,
    GeneratorPenalty,
    ImagePenalty,
    LogitPenalty,
    Loss,
    Metrics,
    Penalty,
)
from medsynth.discriminator.feature_cache import CachedFeatures, FeatureCache
from medsynth.discriminator.unrolling import UnrolledHead
from medsynth.lightning.components import (
    adaptive_components,
    adaptive_generator_penalties,
    check_components,
    check_options,
)
from medsynth.lightning.distributed import first_process_first
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.preparation import (
    check_generator_derivatives,
    check_second_derivatives,
    compile_networks,
    evaluating,
)
from medsynth.lightning.real_features import open_cache
from medsynth.lightning.schedules import Setter
from medsynth.lightning.trainer_access import training_data
from medsynth.runs.provenance import described_discriminator, described_generator


class AdversarialModule(GenerativeModule):
    """A generator and a discriminator, with penalties, adaptive components and a cache of frozen features.

    Batch normalization, layers of ``minibatch``, ``top_k``, ``unrolled_steps`` and the losses relativistic_average and
    dual_contrastive alone depend on shares and microbatches.

    Args:
        generator: (z, labels) -> images.
        discriminator: features and head, see ``contracts.Discriminator``.
        loss: the loss of both networks.
        penalties: terms added to the discriminator's loss, by name.
        generator_penalties: terms added to the generator's loss, by name.
        augmentations: applied in turn to every image that the discriminator sees, by name.
        generator_optimizer: groups of parameters -> optimizer.
        discriminator_optimizer: parameters -> optimizer.
        metrics: compares real and generated images in validation; not a part of the module tree.
        feature_cache: keeps the frozen features of the real images, where that is right; None: never.
        discriminator_steps: discriminator updates, each on images of its own, for one generator update.
        discriminator_margin: the discriminator keeps its weights in a step in which the mean logit of the real images
            is by more than this above that of the generated ones; None: it always learns. A common practice without a
            paper of its own; Goodfellow 2016 ("NIPS 2016 tutorial: Generative adversarial networks", section 4.3)
            doubts such balancing. The step counts as one of ``discriminator_steps`` and of a penalty's interval.
        top_k: fraction of the generated images that the generator's loss is taken of, those with the highest logits
            (Sinha et al. 2020, where it falls from 1 in the course of the training: a schedule does that).
        unrolled_steps: discriminator steps that the generator looks ahead (``discriminator/unrolling.py``); 0: none.
        unrolled_lr: learning rate of these steps.
        class_weight: weight of the classes' cross-entropy in both losses, with an auxiliary classifier.
        weight_clip: bound of the head's weights after each update (Arjovsky et al. 2017: 0.01); None: no bound.
        compile: compile both networks by torch.compile; but not a head that is differentiated twice.
        options: those of ``GenerativeModule``.

    Raises:
        InputError: an option is out of range, or a component lacks a member of its contract.
    """

    discriminator: Discriminator
    counters = ("images_seen", "generator_updates", "discriminator_updates", "discriminator_skipped")
    discriminator_updates: int  # those left out included
    discriminator_skipped: int

    def __init__(
        self,
        *,
        generator: Generator,
        discriminator: Discriminator,
        loss: Loss,
        penalties: Mapping[str, Penalty | LogitPenalty | ImagePenalty],
        generator_optimizer: Callable[[Any], Optimizer],
        discriminator_optimizer: Callable[[Any], Optimizer],
        metrics: Metrics,
        generator_penalties: Mapping[str, GeneratorPenalty] | None = None,
        augmentations: Mapping[str, Augmentation] | None = None,
        feature_cache: FeatureCache | None = None,
        discriminator_steps: int = 1,
        discriminator_margin: float | None = None,
        top_k: float = 1.0,
        class_weight: float = 1.0,
        unrolled_steps: int = 0,
        unrolled_lr: float = 0.1,
        weight_clip: float | None = None,
        compile: bool = False,
        **options: Any,
    ):
        check_options(
            discriminator_steps=discriminator_steps,
            discriminator_margin=discriminator_margin,
            top_k=top_k,
            unrolled_steps=unrolled_steps,
            unrolled_lr=unrolled_lr,
        )
        components: dict[str, dict[str, Any]] = {
            "penalty": dict(penalties),
            "generator_penalty": dict(generator_penalties or {}),
            "augment": dict(augmentations or {}),
        }
        check_components(
            generator=generator,
            discriminator=discriminator,
            loss=loss,
            penalties=components["penalty"],
            generator_penalties=components["generator_penalty"],
            augmentations=components["augment"],
            metrics=metrics,
        )
        super().__init__(
            networks={"generator": generator, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
            metrics=metrics,
            components=components,
            advancing=[discriminator, loss, *(part for parts in components.values() for part in parts.values())],
            **options,
        )
        self.loss = loss
        self.penalties: dict[str, Penalty | LogitPenalty | ImagePenalty] = components["penalty"]
        self.generator_penalties: dict[str, GeneratorPenalty] = components["generator_penalty"]
        self.augmentations: dict[str, Augmentation] = components["augment"]
        self.adaptive = adaptive_components(self.penalties, self.augmentations)
        self.adaptive_generator = adaptive_generator_penalties(self.generator_penalties)
        self.feature_cache = feature_cache
        self.cached_features: CachedFeatures | None = None  # opened before the first step
        self.discriminator_steps = discriminator_steps
        self.discriminator_margin = discriminator_margin
        self.top_k = top_k
        self.class_weight = class_weight
        self.classifies = isinstance(discriminator, AuxiliaryClassifier) and discriminator.classifies
        self.unrolled_steps = unrolled_steps
        self.unrolled_lr = unrolled_lr
        self.unrolled_head: UnrolledHead | None = None  # built before the first step
        self.weight_clip = weight_clip
        self.compile_networks = compile

    def describe(self) -> str:
        """Describe the networks, with the backbone's weights, and their loss in one phrase."""
        loss = " + ".join([type(self.loss).__name__, *self.penalties, *self.generator_penalties])
        augmented = f", augmented by {', '.join(self.augmentations)}" if self.augmentations else ""
        networks = f"{described_generator(self.generator)} against {described_discriminator(self.discriminator)}"
        return f"{networks}, loss {loss}{augmented}"

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network, by name, and of the discriminator's trained ones."""
        groups = self.discriminator.parameter_groups()
        trained = sum(parameter.numel() for group in groups for parameter in group["params"])
        return {**super().parameter_counts(), "discriminator_trained": trained}

    @property
    def steps(self) -> int:
        """Training steps so far, each with one update of the discriminator or one that was left out."""
        return self.discriminator_updates

    # ---- before the first step ---------------------------------------------------------------------------------------

    def own_quantities(self) -> dict[str, Setter]:
        """Return the setters of ``task.top_k`` and ``task.class_weight``."""
        return {f"task.{name}": functools.partial(setattr, self, name) for name in ("top_k", "class_weight")}

    def parameter_groups(self, network: str) -> list[dict[str, Any]]:
        """Return the trained parameters of a network as an optimizer's groups; the discriminator has its own."""
        return (
            self.discriminator.parameter_groups() if network == "discriminator" else super().parameter_groups(network)
        )

    def on_train_start(self) -> None:
        """Calibrate the discriminator, try the penalties, open the feature cache and compile the networks."""
        data = training_data(self.trainer)
        if self.images_seen == 0:
            self.discriminator.calibrate([self.discriminator_input(batch) for batch in data.calibration_batches(8)])
        differentiating = [name for name, penalty in self.penalties.items() if penalty.at not in ("logits", "images")]
        if differentiating or self.unrolled_steps:
            few = 2 * getattr(self.discriminator, "packing", 1)
            images = self.discriminator_input(data.calibration_batches(1)[0])[:few]
            labels = torch.zeros(len(images), dtype=torch.int64, device=self.device) if self.num_classes else None
            if differentiating:
                check_second_derivatives(self.discriminator, images, labels, penalties=differentiating)
            if self.unrolled_steps:
                self.unrolled_head = self._unrolled_head(images, labels)
        of_noise = [name for name, part in self.generator_penalties.items() if getattr(part, "differentiates", False)]
        if of_noise:
            labels = torch.zeros(2, dtype=torch.int64, device=self.device) if self.num_classes else None
            check_generator_derivatives(self.generator, labels, device=self.device, penalties=of_noise)
        if self.feature_cache is not None:
            with first_process_first():  # it fills the cache, the others find it
                self.cached_features = open_cache(
                    self.feature_cache,
                    self.discriminator,
                    data,
                    real_images=self.real_images,
                    rounding=self.trainer.precision_plugin.forward_context,
                    augmentations=list(self.augmentations),
                    images_left=self.max_images - self.images_seen,
                    device=self.device,
                )
        if self.compile_networks:
            twice = bool(differentiating or self.unrolled_steps)
            compile_networks(self.generator, self.discriminator, head=not twice, generate=not of_noise)

    def discriminator_input(self, batch: Batch) -> Tensor:
        """Return the real images of a batch as the discriminator is given them, before augmentation."""
        return self.shown(self.real_images(batch), self.sources(batch)).to(self.device)

    def shown(self, images: Tensor, source: Tensor | None) -> Tensor:
        """Return what the discriminator is given of real or generated images, before augmentation."""
        return images

    def _unrolled_head(self, images: Tensor, labels: Tensor | None) -> UnrolledHead:
        """Return the head that looks ahead, tried on a few images."""
        optimizer = self._lightning_optimizer("discriminator")
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        head = UnrolledHead(self.discriminator, trained, self.loss, steps=self.unrolled_steps, lr=self.unrolled_lr)
        with evaluating(self.discriminator):
            head.check(tuple(tensor.detach() for tensor in self.discriminator.features(images)), labels)
        return head

    def augmented(self, images: Tensor) -> Tensor:
        """Return what the discriminator sees of images that it is given."""
        for augmentation in self.augmentations.values():
            images = augmentation(images)
        return images

    # ---- in the step -------------------------------------------------------------------------------------------------

    def leaves_out(self, network: str, values: dict[str, Tensor]) -> bool:
        """Tell whether the discriminator leads by more than ``discriminator_margin``; log how often it did so far."""
        if network != "discriminator" or self.discriminator_margin is None:
            return False
        leads = (values["real_logits"] - values["fake_logits"]).item() > self.discriminator_margin
        self.discriminator_skipped += leads
        values["skipped"] = values["real_logits"].new_tensor(float(self.discriminator_skipped))
        return leads

    @torch.no_grad()
    def clip_weights(self) -> None:
        """Bound the head's weights by ``weight_clip``."""
        if self.weight_clip is not None:
            for parameter in self.discriminator.parameters():
                if parameter.requires_grad:
                    parameter.clamp_(-self.weight_clip, self.weight_clip)

    def adapt(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Show the adaptive components the logits' means of this update, the same in all processes.

        Returns their values to log, by name.
        """
        if not self.adaptive:
            return {}
        names = ("real_logits", "fake_logits", "real_signs")
        real_logits, fake_logits, real_signs = torch.stack([values[name] for name in names]).tolist()
        logged: dict[str, Tensor] = {}
        for name, component in self.adaptive.items():
            observed = component.observe(real_logits=real_logits, fake_logits=fake_logits, real_signs=real_signs)
            logged |= {f"{name}_{key}": torch.tensor(value) for key, value in observed.items()}
        return logged

    def adapt_generator(self, values: dict[str, Tensor]) -> None:
        """Show the generator's adaptive penalties what was measured in this update; replace it by their values."""
        for name, penalty in self.adaptive_generator.items():
            if f"{name}_measured" in values:
                observed = penalty.observe(measured=values.pop(f"{name}_measured").item())
                values |= {f"{name}_{key}": torch.tensor(value) for key, value in observed.items()}

    def stateful(self) -> dict[str, Adaptive | AdaptiveGeneratorPenalty]:
        """Return the adaptive components, by name."""
        return {**self.adaptive, **self.adaptive_generator}
