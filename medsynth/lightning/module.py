"""The LightningModule beneath the GAN: its options, optimizers, checkpoints, preparation and validation.

The step itself is in ``medsynth/gan.py``.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from medsynth.contracts import (
    Adaptive,
    AdaptiveGeneratorPenalty,
    Augmentation,
    Batch,
    Discriminator,
    Features,
    Generator,
    GeneratorPenalty,
    ImagePenalty,
    InputError,
    LogitPenalty,
    Loss,
    Metrics,
    Penalty,
    Scheduled,
    TrainingData,
    counter_seed,
    noise,
)
from medsynth.discriminator.feature_cache import CachedFeatures, FeatureCache
from medsynth.errors import EndCode
from medsynth.generator.ema import EMA
from medsynth.lightning.components import adaptive_components, adaptive_generator_penalties, check_components
from medsynth.lightning.distributed import average_gradients, averaged, first_process_first
from medsynth.lightning.half_precision import HalfPrecision, NetworkName
from medsynth.lightning.model_state import COUNTERS, check_model_state, checked_format, model_state
from medsynth.lightning.preparation import (
    check_generator_derivatives,
    check_second_derivatives,
    compile_networks,
    evaluating,
)
from medsynth.lightning.schedules import Schedules, schedulable
from medsynth.lightning.trainer_access import training_data


class TrainingDiverged(InputError):
    """A loss or a gradient is no longer finite; the weights were not updated with it."""

    code = EndCode.DIVERGED


class AdversarialModule(pl.LightningModule, abc.ABC):
    """Two networks, manual optimization of both, and what surrounds their step.

    ``batch_size`` is always the batch of the mathematics: processes share it, and ``accumulate`` is the number of
    microbatches in which each computes its share (batch normalization, layers of ``minibatch``, ``top_k`` and the
    losses relativistic_average and dual_contrastive alone depend on shares and microbatches). Durations count real
    images that the discriminator has seen, ``images_seen``; Lightning's ``global_step`` counts the steps of both
    optimizers and is not used here.

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
        max_images: the training ends when exactly so many real images have been seen.
        feature_cache: keeps the frozen features of the real images, where that is right; None: never.
        schedules: a ``contracts.Schedule`` for each scheduled option, nested as options are:
            ``{"penalty": {"r1": {"gamma": schedule}}}``.
        discriminator_steps: discriminator updates, each on images of its own, for one generator update.
        accumulate: microbatches in which a batch is computed to save memory; gradients are summed over them.
        top_k: fraction of the generated images that the generator's loss is taken of, those with the highest logits
            (Sinha et al. 2020, where it falls from 1 in the course of the training: a schedule does that).
        gradient_clip_norm: bound of each network's total gradient norm; None: no bound.
        weight_clip: bound of the head's weights after each update (Arjovsky et al. 2017: 0.01); None: no bound.
        ema_half_life: half-life of the generator's moving average (EMA), in images.
        ema_rampup: the half-life is at most this fraction of ``images_seen`` (Karras et al. 2020, StyleGAN2-ADA).
        channels_last: keep the weights in channels-last memory format.
        compile: compile both networks by torch.compile; but not a head that a penalty differentiates twice.
        num_classes: classes of the labels that condition both networks; 0: unconditional.
        seed: all noise follows from it.

    Raises:
        InputError: an option is out of range, or a component lacks a member of its contract.
    """

    images_seen: int
    discriminator_updates: int
    generator_updates: int

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
        max_images: int,
        generator_penalties: Mapping[str, GeneratorPenalty] | None = None,
        augmentations: Mapping[str, Augmentation] | None = None,
        feature_cache: FeatureCache | None = None,
        schedules: Mapping[str, Any] | None = None,
        discriminator_steps: int = 1,
        accumulate: int = 1,
        top_k: float = 1.0,
        gradient_clip_norm: float | None = None,
        weight_clip: float | None = None,
        ema_half_life: float = 10_000,
        ema_rampup: float = 0.05,
        channels_last: bool = False,
        compile: bool = False,
        num_classes: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.automatic_optimization = False
        for name, value in {"discriminator_steps": discriminator_steps, "accumulate": accumulate}.items():
            if value < 1:
                raise InputError(f"task.{name}={value} must be 1 or more.")
        if not 0 < top_k <= 1:
            raise InputError(f"task.top_k={top_k} must be above 0 and at most 1, the fraction of generated images.")
        check_components(
            generator=generator,
            discriminator=discriminator,
            loss=loss,
            penalties=penalties,
            generator_penalties=generator_penalties or {},
            augmentations=augmentations or {},
            metrics=metrics,
        )
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.penalties = dict(penalties)
        self.generator_penalties = dict(generator_penalties or {})
        self.augmentations = dict(augmentations or {})
        self.feature_cache = feature_cache
        self.schedules = schedules or {}
        self.optimizer_factories = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
        self.metrics = metrics
        self.max_images = max_images
        self.discriminator_steps = discriminator_steps
        self.accumulate = accumulate
        self.top_k = top_k
        self.gradient_clip_norm = gradient_clip_norm
        self.weight_clip = weight_clip
        self.compile_networks = compile
        self.num_classes = num_classes
        self.seed = seed
        self.adaptive = adaptive_components(self.penalties, self.augmentations)
        self.adaptive_generator = adaptive_generator_penalties(self.generator_penalties)
        self._components = {
            "penalty": self.penalties,
            "generator_penalty": self.generator_penalties,
            "augment": self.augmentations,
        }
        changing = [discriminator, loss, *(part for parts in self._components.values() for part in parts.values())]
        self._scheduled = [component for component in changing if isinstance(component, Scheduled)]
        self._schedules = Schedules({}, {})  # filled in with the optimizers
        self.cached_features: CachedFeatures | None = None  # opened before the first step
        self._real_needed = True  # of the metrics
        self.images_seen = 0
        self.discriminator_updates = 0
        self.generator_updates = 0
        if channels_last:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # Lightning's stub lacks it
        assert isinstance(generator, nn.Module)
        self.ema_generator = EMA(generator, half_life=ema_half_life, rampup=ema_rampup)

    @abc.abstractmethod
    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Update the networks with one batch; return values to log, by name."""

    # ---- before the first step ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """Build the optimizers, the generator's first, and find what is scheduled."""
        optimizers = {
            "generator": self._optimizer("generator", [{"params": list(self.generator.parameters())}]),
            "discriminator": self._optimizer("discriminator", self.discriminator.parameter_groups()),
        }
        quantities = schedulable(optimizers, self._components, self.ema_generator)
        quantities["task.top_k"] = functools.partial(setattr, self, "top_k")
        self._schedules = Schedules(self.schedules, quantities)
        return list(optimizers.values())

    def _optimizer(self, network: NetworkName, groups: list[dict[str, Any]]) -> Optimizer:
        try:
            optimizer = self.optimizer_factories[network](groups)
        except (TypeError, ValueError) as error:
            raise InputError(f"{network}_optimizer cannot be built with these options: {error}.") from error
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        return optimizer

    def on_fit_start(self) -> None:
        """Move the metrics to the device."""
        self.metrics.to(self.device)

    def on_train_start(self) -> None:
        """Calibrate the discriminator, try the penalties, open the feature cache and compile the networks."""
        data = training_data(self.trainer)
        if self.images_seen == 0:
            self.discriminator.calibrate([images.to(self.device) for images in data.calibration_batches(8)])
        differentiating = [name for name, penalty in self.penalties.items() if penalty.at not in ("logits", "images")]
        if differentiating:
            few = 2 * getattr(self.discriminator, "packing", 1)
            images = data.calibration_batches(1)[0][:few].to(self.device)
            labels = torch.zeros(len(images), dtype=torch.int64, device=self.device) if self.num_classes else None
            check_second_derivatives(self.discriminator, images, labels, penalties=differentiating)
        of_noise = [name for name, part in self.generator_penalties.items() if getattr(part, "differentiates", False)]
        if of_noise:
            labels = torch.zeros(2, dtype=torch.int64, device=self.device) if self.num_classes else None
            check_generator_derivatives(self.generator, labels, device=self.device, penalties=of_noise)
        if self.feature_cache is not None:
            with first_process_first():  # it fills the cache, the others find it
                self.cached_features = self._open(self.feature_cache, data)
        if self.compile_networks:
            compile_networks(self.generator, self.discriminator, head=not differentiating, generate=not of_noise)

    def _open(self, cache: FeatureCache, data: TrainingData) -> CachedFeatures | None:
        obstacle = None
        if not self.discriminator.has_frozen_features:
            if cache.enabled is not True:
                return None
            obstacle = "the discriminator has no frozen features"
        elif self.augmentations:
            obstacle = f"augment={','.join(self.augmentations)} changes the images at each step"
        elif not data.images_are_fixed:
            obstacle = "the training images are never the same"

        @torch.no_grad()
        def encode(images: Tensor) -> Features:
            with self.trainer.precision_plugin.forward_context():  # rounded as the features of generated images are
                return self.discriminator.features(images.to(self.device))

        with evaluating(self.discriminator):
            return cache.open(
                encode=encode,
                batches=data.ordered_batches(),
                num_images=data.num_train,
                images_left=self.max_images - self.images_seen,
                obstacle=obstacle,
            )

    # ---- in the step -------------------------------------------------------------------------------------------------

    def begin_step(self) -> dict[str, Tensor]:
        """Set all that changes in the course of the training to its state after ``images_seen`` images.

        Returns the scheduled values to log, by name.
        """
        for component in self._scheduled:
            component.advance(self.images_seen)
        values = self._schedules.apply(self.images_seen)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def seed_step(self, stream: int) -> None:
        """Seed PyTorch's generator by the run's seed, the images seen and a number of this step's random streams."""
        torch.manual_seed(counter_seed("step", self.seed, self.images_seen, stream))

    def descend(self, network: NetworkName, loss: Tensor) -> None:
        """Add the gradients of ``loss``; in float16 scaled by the network's own scaler."""
        precision = self.trainer.precision_plugin
        self.manual_backward(precision.scaled(loss, network) if isinstance(precision, HalfPrecision) else loss)

    def update(self, network: NetworkName, values: dict[str, Tensor]) -> None:
        """Step the network's optimizer with the gradients gathered, their means over all processes.

        ``values``, what the step logs, becomes its means over all processes too, and gets the gradient's norm.

        Raises:
            TrainingDiverged: the loss or a gradient is not finite; the weights stay as they were.
        """
        optimizer = self._lightning_optimizer(network)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        average_gradients(parameters)
        values.update(averaged(values))
        precision = self.trainer.precision_plugin
        overflow = isinstance(precision, HalfPrecision) and precision.overflows(optimizer.optimizer, network)
        norm = get_total_norm([p.grad for p in parameters])
        values[f"{network}_gradient_norm"] = norm
        loss = values[f"{network}_loss"]
        if not math.isfinite((loss if overflow else loss + norm).item()):  # one wait for the device, not two
            raise TrainingDiverged(
                f"The {network}'s loss is {loss.item():.4g} and its gradient norm {norm.item():.4g} after "
                f"{self.images_seen:,} images, and the weights were not updated with them: "
                f"lower {network}_optimizer.lr, set task.gradient_clip_norm, or choose another loss or penalty."
            )
        if self.gradient_clip_norm is not None:
            clip_grads_with_norm_(parameters, self.gradient_clip_norm, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _lightning_optimizer(self, network: NetworkName) -> Any:
        generator_optimizer, discriminator_optimizer = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        return {"generator": generator_optimizer, "discriminator": discriminator_optimizer}[network]

    def update_ema(self) -> None:
        """Move the averaged generator towards the generator."""
        assert isinstance(self.generator, nn.Module)
        self.ema_generator.update(self.generator, self.images_seen)

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

    # ---- validation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1], float32, of the averaged generator in evaluation mode."""
        with torch.autocast(self.device.type, enabled=False):
            labels = labels.to(self.device) if self.num_classes and labels is not None else None
            return self.ema_generator.module(z.to(self.device), labels).float()

    def on_validation_epoch_start(self) -> None:
        """Forget the generated images of the last validation; the real ones stay."""
        self.metrics.reset()
        self._real_needed = not self.metrics.has_real

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Generate as many images as there are real ones, with the labels of the real ones, from fixed noise."""
        real = batch["image"]
        if self._real_needed:
            self.metrics.update(real, real=True)
        seed = counter_seed("validation", self.seed, 0)
        z = noise(len(real), self.generator.latent_dim, seed=seed, start=int(batch["index"][0]))
        self.metrics.update(self.sample(z, batch.get("label")), real=False)

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics, without Lightning's step: a callback writes them against images_seen."""
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()}, logger=False)

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters and the state of adaptive components."""
        counters = {name: getattr(self, name) for name in COUNTERS}
        checkpoint["medsynth"] = model_state(counters, self._stateful)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters and the state of adaptive components.

        Raises:
            InputError: the checkpoint is of another format, architecture or set of adaptive components.
        """
        state = checked_format(checkpoint)
        check_model_state(checkpoint, self.state_dict(), self._stateful)
        for name in COUNTERS:
            setattr(self, name, state[name])
        for name, component_state in state.get("adaptive", {}).items():
            self._stateful[name].load_state_dict(component_state)

    @property
    def _stateful(self) -> dict[str, Adaptive | AdaptiveGeneratorPenalty]:
        return {**self.adaptive, **self.adaptive_generator}
