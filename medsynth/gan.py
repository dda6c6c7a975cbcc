"""The GAN as a LightningModule: the discriminator's step, the generator's step, moving average, validation.

Every discriminator is a frozen part, ``features``, and a trained part, ``head``; a plain one has the identity for
``features``. So one step serves them all, with one pass of the generator and one of the frozen part over each image:

    fake_features = features(generator(z))                      graph kept, for the generator's turn
    real_features = features(real)                              no graph
    the discriminator descends on   loss.discriminator(real=head(real_features), fake=head(detached fake_features))
                                    + penalties with respect to what the head sees
    the generator descends on       loss.generator(fake=head(fake_features)), the head just updated and held
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from medsynth.contracts import Batch, Discriminator, Generator, InputError, Loss, Metrics, Penalty, counter_seed, noise
from medsynth.moving_average import MovingAverage

CHECKPOINT_FORMAT = 1


class TrainingDiverged(InputError):
    """A loss or a gradient is no longer finite; the weights were not updated with it."""


class GAN(pl.LightningModule):
    """Adversarial training of a generator against a discriminator, with manual optimization of both.

    ``batch_size`` is always the batch of the mathematics: ``accumulate`` only says in how many parts it is computed
    (batch normalization alone sees the parts).
    Durations count real images that the discriminator has seen, ``images_seen``; Lightning's ``global_step`` counts the
    steps of both optimizers and means nothing here.

    Args:
        generator: (z, labels) -> images.
        discriminator: features and head, see ``contracts.Discriminator``.
        loss: what both players descend on.
        penalties: terms added to the discriminator's loss, by name.
        generator_optimizer: parameters -> optimizer.
        discriminator_optimizer: parameters -> optimizer.
        metrics: compares real and generated images in validation; not a part of the module tree.
        max_images: the training ends when exactly so many real images have been seen.
        discriminator_steps: discriminator updates, each on images of its own, for one generator update.
        accumulate: parts in which a batch is computed to save memory; gradients are summed over them.
        gradient_clip_norm: bound of each player's total gradient norm; None: no bound.
        weight_clip: bound of the head's weights after each update (Arjovsky et al. 2017: 0.01); None: no bound.
        ema_half_life: half-life of the generator's moving average, in images.
        ema_rampup: the half-life is at most this fraction of ``images_seen`` (Karras et al. 2020, StyleGAN2-ADA).
        channels_last: keep the weights in channels-last memory format.
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
        discriminator_steps: int = 1,
        accumulate: int = 1,
        gradient_clip_norm: float | None = None,
        weight_clip: float | None = None,
        ema_half_life: float = 10_000,
        ema_rampup: float = 0.05,
        channels_last: bool = False,
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
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.metrics = metrics
        self.max_images = max_images
        self.discriminator_steps = discriminator_steps
        self.accumulate = accumulate
        self.gradient_clip_norm = gradient_clip_norm
        self.weight_clip = weight_clip
        self.num_classes = num_classes
        self.seed = seed
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
        # All randomness of this step follows from counters, so a resumed run goes on as if it had not been stopped.
        torch.manual_seed(counter_seed("step", self.seed, self.images_seen, self.global_rank))
        parts = self._parts(batch)
        generator_turn = (self.discriminator_updates + 1) % self.discriminator_steps == 0
        # The graph of the fakes serves both players; of several parts only one would fit in memory, so they run again.
        share_graph = generator_turn and len(parts) == 1
        count = sum(len(real) for real, _, _ in parts)
        generator_optimizer, discriminator_optimizer = self.optimizers()

        values: dict[str, Tensor] = {}
        for real, labels, z in parts:
            with torch.set_grad_enabled(share_graph):
                fake_features = self._fake_features(z, labels)
            terms = self._discriminator_terms(self._real_features(real), fake_features.detach(), labels)
            _add(values, terms, weight=len(real) / count)
            self.manual_backward(terms["discriminator_loss"] * (len(real) / count))
        self._update(discriminator_optimizer, "discriminator", values)
        self._clip_weights()
        self.discriminator_updates += 1
        self.images_seen += count

        if generator_turn:
            with self._head_held():
                for real, labels, z in parts:
                    if not share_graph:
                        fake_features = self._fake_features(z, labels)
                    loss = self.loss.generator(real=None, fake=self._head(fake_features, labels))
                    _add(values, {"generator_loss": loss}, weight=len(real) / count)
                    self.manual_backward(loss * (len(real) / count))
            self._update(generator_optimizer, "generator", values)
            self.ema_generator.update(self.generator, self.images_seen)
            self.generator_updates += 1

        if self.images_seen >= self.max_images:
            self.trainer.should_stop = True
        return values

    def _parts(self, batch: Batch) -> list[tuple[Tensor, Tensor | None, Tensor]]:
        """(real, labels, z) for each of the ``accumulate`` parts; the last batch of a run is cut to ``max_images``."""
        real = batch["image"][: self.max_images - self.images_seen]
        z = torch.randn(len(real), self.generator.latent_dim, device=real.device)
        parts = min(self.accumulate, len(real))
        labels = batch["label"][: len(real)].chunk(parts) if self.num_classes else [None] * parts
        return list(zip(real.chunk(parts), labels, z.chunk(parts), strict=False))

    def _fake_features(self, z: Tensor, labels: Tensor | None) -> Tensor:
        return self.discriminator.features(self.generator(z, labels))

    @torch.no_grad()
    def _real_features(self, real: Tensor) -> Tensor:
        return self.discriminator.features(real)

    def _head(self, features: Tensor, labels: Tensor | None) -> Tensor:
        return self.discriminator.head(features, labels).float()

    def _discriminator_terms(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        real_logits, fake_logits = self._head(real, labels), self._head(fake, labels)
        terms = {"discriminator_loss": self.loss.discriminator(real=real_logits, fake=fake_logits)}
        for name, penalty in self.penalties.items():
            if (self.discriminator_updates + 1) % penalty.interval:
                continue
            # In float32 at all times: a gradient's gradient does not survive bfloat16.
            with torch.autocast(self.device.type, enabled=False):
                inputs = _penalized_inputs(penalty.at, real.float(), fake.float())
                terms[name] = penalty(inputs=inputs, logits=self._head(inputs, labels))
            terms["discriminator_loss"] = terms["discriminator_loss"] + terms[name] * penalty.interval
        return terms | {"real_logits": real_logits.mean(), "fake_logits": fake_logits.mean()}

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

    def _update(self, optimizer: Any, player: str, values: dict[str, Tensor]) -> None:
        """Step with the gradients gathered, unless they are not finite: then the weights stay as they were."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        values[f"{player}_gradient_norm"] = norm
        loss = values[f"{player}_loss"]
        if not math.isfinite(loss.item() + norm.item()):
            raise TrainingDiverged(
                f"The {player}'s loss is {loss.item():.4g} and its gradient norm {norm.item():.4g} after "
                f"{self.images_seen:,} images, and the weights were not updated with them: "
                f"lower {player}_optimizer.lr, set task.gradient_clip_norm, or choose another loss or penalty."
            )
        if self.gradient_clip_norm is not None:
            clip_grads_with_norm_(parameters, self.gradient_clip_norm, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

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
        self._num_generated = 0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """As many generated images as there are real ones, with the labels of the real ones, from fixed noise."""
        real = batch["image"]
        if self._real_needed:
            self.metrics.update(real, real=True)
        seed = counter_seed("validation", self.seed, self.global_rank)
        z = noise(len(real), self.generator.latent_dim, seed=seed, start=self._num_generated)
        self.metrics.update(self.sample(z, batch.get("label")), real=False)
        self._num_generated += len(real)

    def on_validation_epoch_end(self) -> None:
        # Logged without Lightning's step: a callback writes them against images_seen.
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()}, logger=False)

    # ---- what Lightning asks -----------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        trained = [parameter for parameter in self.discriminator.parameters() if parameter.requires_grad]
        return [self.generator_optimizer(self.generator.parameters()), self.discriminator_optimizer(trained)]

    def on_fit_start(self) -> None:
        self.metrics.to(self.device)

    def on_train_start(self) -> None:
        if self.images_seen == 0:
            batches = self.trainer.datamodule.calibration_batches(8)
            self.discriminator.calibrate([batch.to(self.device) for batch in batches])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["medsynth"] = {"format": CHECKPOINT_FORMAT, **{name: getattr(self, name) for name in _COUNTERS}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters; refuse a checkpoint that is not of this architecture or format, in one sentence."""
        record = checkpoint.get("medsynth")
        if record is None or record.get("format") != CHECKPOINT_FORMAT:
            found = "not written by medsynth" if record is None else f"of format {record.get('format')}"
            raise InputError(f"The checkpoint is {found}; this version of medsynth reads format {CHECKPOINT_FORMAT}.")
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


_COUNTERS = ("images_seen", "discriminator_updates", "generator_updates")


def _add(values: dict[str, Tensor], terms: Mapping[str, Tensor], *, weight: float) -> None:
    for name, term in terms.items():
        values[name] = values.get(name, 0.0) + term.detach() * weight


def _penalized_inputs(at: str, real: Tensor, fake: Tensor) -> Tensor:
    if at == "between":
        position = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
        inputs = torch.lerp(real, fake, position)
    else:
        inputs = {"real": real, "fake": fake}[at]
    return inputs.detach().requires_grad_(True)
