"""The GAN as a LightningModule: the discriminator's step, the generator's step, moving average, validation.

Every discriminator is a frozen part, ``features``, and a trained part, ``head``; a plain one has the identity for
``features``. So one step serves them all, with one pass of the generator and one of the frozen part over each image:

    fake_features = features(augment(generator(z)))             graph kept, for the generator's turn
    real_features = features(augment(real))                     no graph; or read from the feature bank
    the discriminator descends on   loss.discriminator(real=head(real_features), fake=head(detached fake_features))
                                    + penalties with respect to what the head sees
    the generator descends on       loss.generator(real=head(real_features), fake=head(fake_features)),
                                    the head just updated and held; real alone where the loss compares
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from medsynth.contracts import (
    Adaptive,
    Augmentation,
    Batch,
    Discriminator,
    Features,
    Generator,
    InputError,
    Loss,
    Metrics,
    Penalty,
    Scheduled,
    counter_seed,
    noise,
)
from medsynth.discriminator.feature_cache import FeatureBank
from medsynth.errors import EndCode
from medsynth.generator.ema import MovingAverage
from medsynth.lightning.distributed import (
    average_batch_statistics,
    average_gradients,
    averaged,
    first_process_first,
    share,
)
from medsynth.lightning.half_precision import HalfPrecision
from medsynth.lightning.preparation import compile_players, try_penalties

CHECKPOINT_FORMAT = 2  # 1 had no state of adaptive parts, and fingerprinted data in another way


class TrainingDiverged(InputError):
    """A loss or a gradient is no longer finite; the weights were not updated with it."""

    code = EndCode.DIVERGED


class GAN(pl.LightningModule):
    """Adversarial training of a generator against a discriminator, with manual optimization of both.

    ``batch_size`` is always the batch of the mathematics: processes share it, and ``accumulate`` says in how many parts
    each computes its share (batch normalization and the loss relativistic_average alone see shares and parts).
    Durations count real images that the discriminator has seen, ``images_seen``; Lightning's ``global_step`` counts the
    steps of both optimizers and means nothing here.

    Args:
        generator: (z, labels) -> images.
        discriminator: features and head, see ``contracts.Discriminator``.
        loss: what both players descend on.
        penalties: terms added to the discriminator's loss, by name.
        augmentations: applied in turn to every image that the discriminator sees, by name.
        generator_optimizer: parameters -> optimizer.
        discriminator_optimizer: parameters -> optimizer.
        metrics: compares real and generated images in validation; not a part of the module tree.
        max_images: the training ends when exactly so many real images have been seen.
        feature_bank: keeps what the frozen part makes of the real images, where that is right; None: never.
        discriminator_steps: discriminator updates, each on images of its own, for one generator update.
        accumulate: parts in which a batch is computed to save memory; gradients are summed over them.
        gradient_clip_norm: bound of each player's total gradient norm; None: no bound.
        weight_clip: bound of the head's weights after each update (Arjovsky et al. 2017: 0.01); None: no bound.
        ema_half_life: half-life of the generator's moving average, in images.
        ema_rampup: the half-life is at most this fraction of ``images_seen`` (Karras et al. 2020, StyleGAN2-ADA).
        channels_last: keep the weights in channels-last memory format.
        compile: let torch.compile translate both players; but not a head that a penalty differentiates twice.
        num_classes: classes of the labels that condition both players; 0: unconditional.
        seed: all noise follows from it.
    """

    def __init__(
        self,
        *,
        generator: Generator,
        discriminator: Discriminator,
        loss: Loss,
        penalties: Mapping[str, Penalty],
        generator_optimizer: Callable[[Iterable[Tensor]], Optimizer],
        discriminator_optimizer: Callable[[Iterable[Tensor]], Optimizer],
        metrics: Metrics,
        max_images: int,
        augmentations: Mapping[str, Augmentation] | None = None,
        feature_bank: FeatureBank | None = None,
        discriminator_steps: int = 1,
        accumulate: int = 1,
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
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.penalties = dict(penalties)
        self.augmentations = dict(augmentations or {})
        self.feature_bank = feature_bank
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.metrics = metrics
        self.max_images = max_images
        self.discriminator_steps = discriminator_steps
        self.accumulate = accumulate
        self.gradient_clip_norm = gradient_clip_norm
        self.weight_clip = weight_clip
        self.compile_players = compile
        self.num_classes = num_classes
        self.seed = seed
        changing = (discriminator, loss, *self.penalties.values(), *self.augmentations.values())
        self._scheduled = [part for part in changing if isinstance(part, Scheduled)]
        both = self.penalties.keys() & self.augmentations.keys()
        if both:
            raise InputError(f"penalty and augment both have a part named {min(both)}: give one of them another name.")
        named = {**self.penalties, **self.augmentations}
        self._adaptive = {name: part for name, part in named.items() if isinstance(part, Adaptive)}
        self._bank = None  # opened before the first step
        self.images_seen = 0
        self.discriminator_updates = 0
        self.generator_updates = 0
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self.ema_generator = MovingAverage(generator, half_life=ema_half_life, rampup=ema_rampup)

    # ---- training ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """One discriminator update and, every ``discriminator_steps`` of them, one generator update.

        Returns what is to be logged, by name.
        """
        for scheduled in self._scheduled:
            scheduled.advance(self.images_seen)
        # All randomness of this step follows from counters, so a resumed run goes on as if it had not been stopped. All
        # processes draw the noise of the whole batch, so that the images do not depend on how many they are.
        torch.manual_seed(counter_seed("step", self.seed, self.images_seen, 0))
        parts = self._parts(batch)
        if self.global_rank > 0:
            torch.manual_seed(counter_seed("step", self.seed, self.images_seen, self.global_rank))
        generator_turn = (self.discriminator_updates + 1) % self.discriminator_steps == 0
        # The graph of the fakes serves both players; of several parts only one would fit in memory, so they run again.
        share_graph = generator_turn and len(parts) == 1
        count = sum(len(part.real) for part in parts)
        generator_optimizer, discriminator_optimizer = self.optimizers()

        values: dict[str, Tensor] = {}
        for part in parts:
            with torch.set_grad_enabled(share_graph):
                part.fake_features = self._fake_features(part)
            part.real_features = self._real_features(part)
            terms = self._discriminator_terms(part)
            _add(values, terms, weight=len(part.real) / count)
            self._descend("discriminator", terms["discriminator_loss"] * (len(part.real) / count))
            if not share_graph:
                part.fake_features = ()  # memory is what there are parts for
        self._update(discriminator_optimizer, "discriminator", values)
        self._clip_weights()
        average_batch_statistics(self.discriminator)
        self.discriminator_updates += 1
        self.images_seen += count * self.trainer.world_size
        adapted = self._adapt(values) if self._adaptive else {}

        if generator_turn:
            with self._head_held():
                for part in parts:
                    if not share_graph:
                        part.fake_features = self._fake_features(part)
                    loss = self._generator_loss(part)
                    _add(values, {"generator_loss": loss}, weight=len(part.real) / count)
                    self._descend("generator", loss * (len(part.real) / count))
                    part.fake_features = part.real_features = ()
            self._update(generator_optimizer, "generator", values)
            average_batch_statistics(self.generator)
            self.ema_generator.update(self.generator, self.images_seen)
            self.generator_updates += 1

        if self.images_seen >= self.max_images:
            self.trainer.should_stop = True
        return values | adapted

    def _parts(self, batch: Batch) -> list[_Part]:
        """The ``accumulate`` parts of this process's share; the last batch of a run is cut to ``max_images``."""
        world_size = self.trainer.world_size
        real = batch["image"][: (self.max_images - self.images_seen) // world_size]
        z = torch.randn(len(real) * world_size, self.generator.latent_dim, device=real.device)
        z = share(z, self.global_rank, world_size)
        count = min(self.accumulate, len(real))
        labels = batch["label"][: len(real)].chunk(count) if self.num_classes else [None] * count
        index = batch["index"][: len(real)].chunk(count)
        return [_Part(*tensors) for tensors in zip(real.chunk(count), labels, index, z.chunk(count), strict=False)]

    def _fake_features(self, part: _Part) -> Features:
        return self.discriminator.features(self._augmented(self.generator(part.z, part.labels)))

    @torch.no_grad()
    def _real_features(self, part: _Part) -> Features:
        if self._bank is not None:
            return self._bank.read(part.index)
        return self.discriminator.features(self._augmented(part.real))

    def _augmented(self, images: Tensor) -> Tensor:
        for augmentation in self.augmentations.values():
            images = augmentation(images)
        return images

    def _head(self, features: Features, labels: Tensor | None) -> Tensor:
        return self.discriminator.head(features, labels).float()

    def _discriminator_terms(self, part: _Part) -> dict[str, Tensor]:
        real, fake = part.real_features, tuple(tensor.detach() for tensor in part.fake_features)
        real_logits, fake_logits = self._head(real, part.labels), self._head(fake, part.labels)
        terms = {"discriminator_loss": self.loss.discriminator(real=real_logits, fake=fake_logits)}
        for name, penalty in self.penalties.items():
            if (self.discriminator_updates + 1) % penalty.interval:
                continue
            if penalty.at == "logits":
                terms[name] = penalty(real=real_logits, fake=fake_logits)
            else:
                terms[name] = self.penalty_term(penalty, real, fake, part.labels)
            terms["discriminator_loss"] = terms["discriminator_loss"] + terms[name] * penalty.interval
        if self._adaptive:
            boundary = fake_logits if self.loss.boundary is None else self.loss.boundary
            terms["real_signs"] = (real_logits - boundary).sign().mean()
        return terms | {"real_logits": real_logits.mean(), "fake_logits": fake_logits.mean()}

    def penalty_term(self, penalty: Penalty, real: Features, fake: Features, labels: Tensor | None) -> Tensor:
        """The penalty, with its graph, where it is to be taken."""
        # In float32 at all times: a gradient's gradient does not survive bfloat16.
        with torch.autocast(self.device.type, enabled=False):
            inputs = _penalized_inputs(penalty.at, real, fake)
            return penalty(inputs=inputs, logits=self._head(inputs, labels))

    def _generator_loss(self, part: _Part) -> Tensor:
        real_logits = None
        if self.loss.relativistic:
            with torch.no_grad():
                real_logits = self._head(part.real_features, part.labels)
        return self.loss.generator(real=real_logits, fake=self._head(part.fake_features, part.labels))

    @contextlib.contextmanager
    def _head_held(self) -> Iterator[None]:
        """The generator's gradient passes through the head; gradients of the head's weights would be thrown away.

        Weights that require none are also not taken from autocast's cache, which holds them as before their update.
        """
        trained = [parameter for parameter in self.discriminator.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _descend(self, player: str, loss: Tensor) -> None:
        precision = self.trainer.precision_plugin
        self.manual_backward(precision.scaled(loss, player) if isinstance(precision, HalfPrecision) else loss)

    def _update(self, optimizer: Any, player: str, values: dict[str, Tensor]) -> None:
        """Step with the gradients gathered, unless they are not finite: then the weights stay as they were."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        average_gradients(parameters)
        values.update(averaged(values))
        precision = self.trainer.precision_plugin
        overflow = isinstance(precision, HalfPrecision) and precision.overflows(optimizer.optimizer, player)
        norm = get_total_norm([p.grad for p in parameters])
        values[f"{player}_gradient_norm"] = norm
        loss = values[f"{player}_loss"]
        if not math.isfinite((loss if overflow else loss + norm).item()):  # one wait for the device, not two
            raise TrainingDiverged(
                f"The {player}'s loss is {loss.item():.4g} and its gradient norm {norm.item():.4g} after "
                f"{self.images_seen:,} images, and the weights were not updated with them: "
                f"lower {player}_optimizer.lr, set task.gradient_clip_norm, or choose another loss or penalty."
            )
        if self.gradient_clip_norm is not None:
            clip_grads_with_norm_(parameters, self.gradient_clip_norm, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _adapt(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tell the adaptive parts what the discriminator said in this update, the same in all processes."""
        names = ("real_logits", "fake_logits", "real_signs")
        means = dict(zip(names, torch.stack([values[name] for name in names]).tolist(), strict=True))
        said: dict[str, Tensor] = {}
        for name, part in self._adaptive.items():
            said |= {f"{name}_{key}": torch.tensor(value) for key, value in part.observe(**means).items()}
        return said

    @torch.no_grad()
    def _clip_weights(self) -> None:
        if self.weight_clip is not None:
            for parameter in self.discriminator.parameters():
                if parameter.requires_grad:
                    parameter.clamp_(-self.weight_clip, self.weight_clip)

    # ---- validation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], float32, of the averaged generator in evaluation mode."""
        with torch.autocast(self.device.type, enabled=False):
            labels = labels.to(self.device) if self.num_classes and labels is not None else None
            return self.ema_generator.module(z.to(self.device), labels).float()

    def on_validation_epoch_start(self) -> None:
        self.metrics.reset()  # of the generated images; the real ones stay
        self._real_needed = not self.metrics.has_real

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """As many generated images as there are real ones, with the labels of the real ones, from fixed noise."""
        real = batch["image"]
        if self._real_needed:
            self.metrics.update(real, real=True)
        seed = counter_seed("validation", self.seed, 0)
        z = noise(len(real), self.generator.latent_dim, seed=seed, start=int(batch["index"][0]))
        self.metrics.update(self.sample(z, batch.get("label")), real=False)

    def on_validation_epoch_end(self) -> None:
        # Logged without Lightning's step: a callback writes them against images_seen.
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()}, logger=False)

    # ---- what Lightning asks -----------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        groups = {
            "generator": [{"params": list(self.generator.parameters())}],
            "discriminator": self.discriminator.parameter_groups(),
        }
        return [self._optimizer(player, parameters) for player, parameters in groups.items()]

    def _optimizer(self, player: str, groups: list[dict[str, Any]]) -> Optimizer:
        try:
            optimizer = getattr(self, f"{player}_optimizer")(groups)
        except (TypeError, ValueError) as error:
            raise InputError(f"{player}_optimizer cannot be made of these options: {error}.") from error
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        return optimizer

    def on_fit_start(self) -> None:
        self.metrics.to(self.device)

    def on_train_start(self) -> None:
        """What needs data or device before the first step: calibration, a trial of the penalties, the feature bank."""
        data = self.trainer.datamodule
        if self.images_seen == 0:
            self.discriminator.calibrate([images.to(self.device) for images in data.calibration_batches(8)])
        try_penalties(self, data.calibration_batches(1)[0][:2].to(self.device))
        if self.feature_bank is not None:
            with first_process_first():  # it fills the bank, the others find it
                self._bank = self.feature_bank.open(self, data)
        if self.compile_players:
            compile_players(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        adaptive = {name: part.state_dict() for name, part in self._adaptive.items()}
        counters = {name: getattr(self, name) for name in _COUNTERS}
        checkpoint["medsynth"] = {"format": CHECKPOINT_FORMAT, **counters, "adaptive": adaptive}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters; refuse a checkpoint that is not of this architecture or format, in one sentence."""
        record = checkpoint.get("medsynth")
        if record is None or record.get("format") not in (1, CHECKPOINT_FORMAT):
            found = "not written by medsynth" if record is None else f"of format {record.get('format')}"
            raise InputError(
                f"The checkpoint is {found}; this version of medsynth reads format {CHECKPOINT_FORMAT}, and format 1."
            )
        own = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
        different = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        if different:
            raise InputError(
                f"The checkpoint is of another architecture: {len(different)} of its {len(found)} tensors do not fit, "
                f"the first being {different[0]} (here {own.get(different[0])}, there {found.get(different[0])}); "
                "resume with the configuration that it was trained with."
            )
        for name in _COUNTERS:
            setattr(self, name, record[name])
        adaptive = record.get("adaptive", {})
        if record["format"] > 1 and adaptive.keys() != self._adaptive.keys():
            raise InputError(
                f"The checkpoint is of a training with [{','.join(adaptive)}] where this one has "
                f"[{','.join(self._adaptive)}]; resume with the configuration that it was trained with."
            )
        for name, state in adaptive.items():
            self._adaptive[name].load_state_dict(state)


_COUNTERS = ("images_seen", "discriminator_updates", "generator_updates")


@dataclasses.dataclass
class _Part:
    """What is computed at a time: the whole batch, or one of the ``accumulate`` parts of it."""

    real: Tensor
    labels: Tensor | None
    index: Tensor
    z: Tensor
    fake_features: Features = ()
    real_features: Features = ()


def _add(values: dict[str, Tensor], terms: Mapping[str, Tensor], *, weight: float) -> None:
    for name, term in terms.items():
        values[name] = values.get(name, 0.0) + term.detach() * weight


def _penalized_inputs(at: str, real: Features, fake: Features) -> Features:
    real, fake = ([tensor.detach().float() for tensor in features] for features in (real, fake))
    if at == "between":
        position = torch.rand(len(real[0]), device=real[0].device)
        inputs = [torch.lerp(r, f, position.view(-1, *[1] * (r.dim() - 1))) for r, f in zip(real, fake, strict=True)]
    else:
        inputs = {"real": real, "fake": fake}[at]
    return tuple(tensor.requires_grad_(True) for tensor in inputs)
