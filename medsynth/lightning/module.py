"""The base of every task's LightningModule: what surrounds a step, validation and checkpoints.

The updates of the networks are in ``medsynth/lightning/updating.py``. A task adds its networks and its step:
``medsynth/lightning/adversarial.py`` and ``medsynth/gan.py``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsynth.contracts import (
    Adaptive,
    AdaptiveGeneratorPenalty,
    Batch,
    Generator,
    InputError,
    Metrics,
    Network,
    Scheduled,
    TrainingData,
    counter_seed,
    noise,
)
from medsynth.generator.ema import EMA
from medsynth.lightning.distributed import share
from medsynth.lightning.microbatch import DrawnMicrobatch
from medsynth.lightning.model_state import check_model_state, checked_format, model_state
from medsynth.lightning.schedules import Schedules, Setter, schedulable
from medsynth.lightning.updating import UpdatingModule

_Microbatch = TypeVar("_Microbatch", bound=DrawnMicrobatch)


class GenerativeModule(UpdatingModule, abc.ABC):
    """Manual optimization of named networks, one of them a generator, and what surrounds their step.

    ``batch_size`` is always the batch of the mathematics: processes share it, and ``accumulate`` is the number of
    microbatches in which each computes its share. Durations count real images, ``images_seen``; Lightning's
    ``global_step`` counts the steps of all optimizers and is not used here.

    Args:
        networks: by name, "generator" among them; each becomes an attribute of its name.
        optimizers: for each network by its name, in the order of checkpoints: groups of parameters -> optimizer.
        metrics: compares real and generated images in validation; not a part of the module tree.
        max_images: the training ends when exactly so many real images have been seen.
        components: the parts whose numbers can be scheduled, by group ("penalty") and name.
        advancing: the parts that follow the images seen where they have ``advance`` (``contracts.Scheduled``).
        schedules: a ``contracts.Schedule`` for each scheduled option, nested as options are:
            ``{"penalty": {"r1": {"gamma": schedule}}}``.
        accumulate: microbatches in which a batch is computed to save memory; gradients are summed over them.
        gradient_clip_norm: bound of each network's total gradient norm; None: no bound.
        ema_half_life: half-life of the generator's moving average (EMA), in images.
        ema_rampup: the half-life is at most this fraction of ``images_seen`` (Karras et al. 2020, StyleGAN2-ADA).
        channels_last: keep the weights in channels-last memory format.
        num_classes: classes of the labels that condition the networks; 0: unconditional.
        seed: all noise follows from it.

    Raises:
        InputError: an option is out of range.
    """

    generator: Generator
    counters: tuple[str, ...] = ("images_seen", "generator_updates")  # kept in checkpoints
    images_seen: int
    generator_updates: int
    has_pairs: bool = False  # whether sources and real images are the same cases
    reconstructions: tuple[Tensor, Tensor] | None = None  # real images and theirs, after a validation with an encoder

    def __init__(
        self,
        *,
        networks: Mapping[str, Network],
        optimizers: Mapping[str, Callable[[Any], Optimizer]],
        metrics: Metrics,
        max_images: int,
        components: Mapping[str, Mapping[str, object]] | None = None,
        advancing: Iterable[object] = (),
        schedules: Mapping[str, Any] | None = None,
        accumulate: int = 1,
        gradient_clip_norm: float | None = None,
        ema_half_life: float = 10_000,
        ema_rampup: float = 0.05,
        channels_last: bool = False,
        num_classes: int = 0,
        seed: int = 0,
    ):
        super().__init__(networks=networks, optimizers=optimizers, gradient_clip_norm=gradient_clip_norm)
        if accumulate < 1:
            raise InputError(f"task.accumulate={accumulate} must be 1 or more.")
        self.metrics = metrics
        self.max_images = max_images
        self.schedules = schedules or {}
        self.accumulate = accumulate
        self.num_classes = num_classes
        self.seed = seed
        self._components = components or {}
        self._advancing = [part for part in advancing if isinstance(part, Scheduled)]
        self._schedules = Schedules({}, {})  # filled in with the optimizers
        self._real_needed = True  # of the metrics
        for counter in self.counters:
            setattr(self, counter, 0)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # Lightning's stub lacks it
        assert isinstance(self.generator, nn.Module)
        self.ema_generator = EMA(self.generator, half_life=ema_half_life, rampup=ema_rampup)

    @abc.abstractmethod
    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Update the networks with one batch; return values to log, by name."""

    def real_images(self, batch: Batch) -> Tensor:
        """Return the images of a batch that generated ones are to be like."""
        return batch["image"]

    def sources(self, batch: Batch) -> Tensor | None:
        """Return the images of a batch that are to be translated; None: images are made of noise alone."""
        return None

    def made_by(self, network: Network, z: Tensor, labels: Tensor | None, source: Tensor | None) -> Tensor:
        """Return the images (N, C, H, W) that a generator makes of noise and labels, or of sources."""
        return cast(Generator, network)(z, labels)

    def next_command(self, run: str) -> str:
        """Return the command that uses the generator of the folder ``run``."""
        return f"medsynth generate run={run} num_samples=64 out=generated"

    def card_entries(self, data: TrainingData) -> dict[str, Any]:
        """Return what the card of the exported generator has beside what every task's has."""
        return {}

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe the networks and what they minimize in one phrase."""

    @property
    def steps(self) -> int:
        """Training steps so far, those before a resumption included."""
        return self.generator_updates

    # ---- before the first step ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """Build the optimizers, in the order of their names, and find what is scheduled."""
        optimizers = {name: self.build_optimizer(name) for name in self.optimizer_factories}
        quantities = schedulable(optimizers, self._components, self.ema_generator)
        self._schedules = Schedules(self.schedules, quantities | self.own_quantities())
        return list(optimizers.values())

    def own_quantities(self) -> dict[str, Setter]:
        """Return the options of the task itself that can be scheduled: a function that sets the value, by name."""
        return {}

    def on_fit_start(self) -> None:
        """Move the metrics to the device."""
        self.metrics.to(self.device)

    # ---- in the step -------------------------------------------------------------------------------------------------

    def begin_step(self) -> dict[str, Tensor]:
        """Set all that changes in the course of the training to its state after ``images_seen`` images.

        Returns the scheduled values to log, by name.
        """
        for component in self._advancing:
            component.advance(self.images_seen)
        values = self._schedules.apply(self.images_seen)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def seed_step(self, stream: int) -> None:
        """Seed PyTorch's generator by the run's seed, the images seen and a number of this step's random streams."""
        seed = counter_seed("step", self.seed, self.images_seen, stream)
        if self.device.type == "cpu":  # torch.manual_seed also prepares those of GPUs, with a stack trace: 1 ms
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def microbatches(self, kind: type[_Microbatch], batch: Batch, *, noise_width: int) -> list[_Microbatch]:
        """Draw the noise and divide this process's share; the last batch of a run is cut to ``max_images``.

        All randomness of a step follows from counters, so that a resumed run is exact. All processes draw the noise of
        the whole batch, so that the images do not depend on their number; only then do they draw for themselves.

        Args:
            kind: class of the microbatches.
            batch: this process's share of the real images.
            noise_width: standard normal values for each image.
        """
        self.seed_step(0)
        world_size = self.trainer.world_size
        real = self.real_images(batch)[: (self.max_images - self.images_seen) // world_size]
        z = torch.randn(len(real) * world_size, noise_width, device=real.device)
        z = share(z, self.global_rank, world_size)
        if self.global_rank > 0:
            self.seed_step(self.global_rank)
        count = min(self.accumulate, len(real))
        labels = [None] * count
        if self.num_classes and "label" in batch:
            labels = batch["label"][: len(real)].chunk(count)
        index = batch["index"][: len(real)].chunk(count)
        source, mask = self.sources(batch), batch.get("mask")
        sources = [None] * count if source is None else source[: len(real)].chunk(count)
        masks = [None] * count if source is None or mask is None else mask[: len(real)].chunk(count)
        pieces = zip(real.chunk(count), labels, index, z.chunk(count), sources, masks, strict=False)
        return [
            kind(*drawn, weight=len(drawn[0]) / len(real), source=source, mask=mask) for *drawn, source, mask in pieces
        ]

    def count_images(self, images: int) -> None:
        """Count the real images that each process has just seen, and end the training after the last one."""
        self.images_seen += images * self.trainer.world_size
        if self.images_seen >= self.max_images:
            self.trainer.should_stop = True

    def update_ema(self) -> None:
        """Move the averaged generator towards the generator."""
        assert isinstance(self.generator, nn.Module)
        self.ema_generator.update(self.generator, self.images_seen)

    # ---- validation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, z: Tensor, labels: Tensor | None = None, source: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1], float32, of the averaged generator in evaluation mode."""
        with torch.autocast(self.device.type, enabled=False):
            labels = labels.to(self.device) if self.num_classes and labels is not None else None
            source = None if source is None else source.to(self.device)
            return self.made_by(self.ema_generator.module, z.to(self.device), labels, source).float()

    def on_validation_epoch_start(self) -> None:
        """Forget the generated images of the last validation; the real ones stay."""
        self.metrics.reset()
        self._real_needed = not self.metrics.has_real

    def validation_noise(self, count: int, start: int = 0) -> Tensor:
        """Return the noise (count, latent_dim) that goes with the validation images from ``start``."""
        seed = counter_seed("validation", self.seed, 0)
        return noise(count, self.generator.latent_dim, seed=seed, start=start)

    def validation_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return as many generated images as there are real ones, of the same labels, from fixed noise."""
        real = self.real_images(batch)
        if self._real_needed:
            self.metrics.update(real, real=True)
        z = self.validation_noise(len(real), start=int(batch["index"][0]))
        fake = self.sample(z, batch.get("label"), self.sources(batch))
        self.metrics.update(fake, real=False)
        return fake

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics, without Lightning's step: a callback writes them against images_seen."""
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()}, logger=False)

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters and the state of adaptive components."""
        counters = {name: getattr(self, name) for name in self.counters}
        checkpoint["medsynth"] = model_state(counters, self.stateful())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters and the state of adaptive components.

        Raises:
            InputError: the checkpoint is of another format, architecture or set of adaptive components.
        """
        state = checked_format(checkpoint)
        check_model_state(checkpoint, self.state_dict(), self.stateful())
        for name in self.counters:
            setattr(self, name, state.get(name, 0))  # earlier versions have written fewer
        for name, component_state in state.get("adaptive", {}).items():
            self.stateful()[name].load_state_dict(component_state)

    def stateful(self) -> dict[str, Adaptive | AdaptiveGeneratorPenalty]:
        """Return the components whose state belongs into checkpoints, by name."""
        return {}
