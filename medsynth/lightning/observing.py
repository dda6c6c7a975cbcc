"""The images of a validation, and of the training, as the doctor observes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from medsynth.contracts import Batch, HasFeatures, TrainingData, counter_seed
from medsynth.diagnosis.pictures import nearest_training
from medsynth.diagnosis.signals import FeatureSets, LogitSets, Observation
from medsynth.lightning.adversarial import AdversarialModule
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.preparation import evaluating
from medsynth.lightning.trainer_access import training_data

Steps = Mapping[str, Sequence[float]]
_FEW = 128  # images that logits, and images of the raw generator, are computed of


class ObservedImages:
    """The first images of each validation, real and generated, and the first training images.

    Args:
        num_images: validation images, and as many generated ones, that appearance and features are compared on.
        num_training: training images whose features are kept, to find copies of them.
    """

    def __init__(self, *, num_images: int, num_training: int):
        self.num_images, self.num_training = num_images, num_training
        self._batches: list[_Validated] = []  # of this process
        self._training: list[Batch] = []  # the first training images, for logits
        self._training_features: Tensor | None = None

    def __len__(self) -> int:
        return sum(len(b.fake) for b in self._batches)

    def begin(self) -> None:
        """Forget the images of the validation before."""
        self._batches = []

    def add(self, model: GenerativeModule, batch: Batch, fake: Tensor) -> None:
        """Keep a batch of a validation, until there are ``num_images``."""
        if len(self) < self.num_images:
            start = int(batch["index"][0])
            real, source = model.real_images(batch).cpu(), model.sources(batch)
            source = None if source is None else source.cpu()
            self._batches.append(_Validated(fake.cpu(), real, batch.get("label"), start, source))

    def observe(
        self, trainer: pl.Trainer, model: GenerativeModule, steps: Steps, earlier: Mapping[str, float]
    ) -> Observation:
        """Return the sets of images, features and logits that signals are computed of.

        Args:
            trainer: of the run.
            model: its networks.
            steps: values of the steps since the last validation.
            earlier: typical values of the first steps.
        """
        fake = torch.cat([b.fake for b in self._batches])[: self.num_images]
        real = torch.cat([b.real for b in self._batches])[: self.num_images]
        labels = self._labels(model)
        noises = [model.validation_noise(len(b.fake), b.start) for b in self._batches]
        sources = self._sources()
        raw, augmented = _raw_images(model, torch.cat(noises)[:_FEW], labels, sources), None
        if isinstance(model, AdversarialModule) and model.augmentations:
            augmented = augmented_images(model, real[:_FEW])
        self._know_training(model, training_data(trainer))
        objective = trainer.callback_metrics.get(getattr(trainer.checkpoint_callback, "monitor", None) or "", math.nan)
        return Observation(
            fake=fake,
            real=real,
            labels=labels,
            raw=raw.cpu(),
            augmented=None if augmented is None else augmented.cpu(),
            features=self._features(model, len(fake), raw, augmented),
            logits=self._logits(model, fake, real, labels, sources),
            steps=steps,
            earlier=earlier,
            objective=float(objective),
            num_val=training_data(trainer).num_val,
            progress=model.images_seen / model.max_images,
        )

    def _know_training(self, model: GenerativeModule, data: TrainingData) -> None:
        """Keep the first training images, and the features of more of them."""
        if self._training:
            return
        features: list[Tensor] = []
        source = _with_features(model)
        for batch in _first_batches(data, self.num_training):
            if sum(len(kept["image"]) for kept in self._training) < _FEW:
                self._training.append(batch)
            if source is not None:
                features.append(source.features_of(model.real_images(batch)).cpu())
        self._training_features = torch.cat(features) if features else None

    def _labels(self, model: GenerativeModule) -> Tensor | None:
        labels = [b.labels for b in self._batches if b.labels is not None]
        return torch.cat(labels).cpu()[: self.num_images] if model.num_classes and labels else None

    def _sources(self) -> Tensor | None:
        sources = [b.source for b in self._batches if b.source is not None]
        return torch.cat(sources)[: self.num_images] if sources else None

    def _features(
        self, model: GenerativeModule, count: int, raw: Tensor, augmented: Tensor | None
    ) -> FeatureSets | None:
        """Return features; those of ``count`` validated images are the first, before those of other processes."""
        metrics, training = _with_features(model), self._training_features
        if metrics is None or training is None:
            return None
        real, fake = (side[:count].cpu() for side in metrics.features())
        of_raw = metrics.features_of(raw).cpu()
        of_augmented = None if augmented is None else metrics.features_of(augmented).cpu()
        return FeatureSets(fake, real, training, of_raw, metrics.classify, of_augmented)

    def _logits(
        self, model: GenerativeModule, fake: Tensor, real: Tensor, labels: Tensor | None, sources: Tensor | None
    ) -> LogitSets | None:
        if not isinstance(model, AdversarialModule):
            return None
        training = torch.cat([model.discriminator_input(batch) for batch in self._training])[:_FEW]
        sources = None if sources is None else sources[:_FEW]
        held_out, made = (model.shown(images[:_FEW], sources) for images in (real, fake))
        own = None
        if model.num_classes:
            own = torch.cat([label for b in self._training if (label := b.get("label")) is not None])[:_FEW]
        with evaluating(model.discriminator), torch.no_grad():
            return LogitSets(
                training=_logits_of(model, training, own),
                held_out=_logits_of(model, held_out, labels),
                fake=_logits_of(model, made, labels),
                loss=model.loss,
            )


class _Validated(NamedTuple):
    """A batch of a validation: generated and real images of the same labels, and the number of its first image.

    ``source``: what was translated; None: nothing was.
    """

    fake: Tensor
    real: Tensor
    labels: Tensor | None
    start: int
    source: Tensor | None


def copies(observation: Observation, model: GenerativeModule, data: TrainingData) -> dict[str, Tensor]:
    """Return generated images, each with the nearest training image after it, by a panel's title."""
    pairs = nearest_training(observation)
    last = max((number for _, number in pairs), default=-1)
    known = torch.cat([model.real_images(batch).cpu() for batch in _first_batches(data, last + 1)]) if pairs else None
    if known is None:
        return {}
    shown = [image for made, trained in pairs for image in (observation.fake[made], known[trained])]
    return {"generated, training": torch.stack(shown)}


@torch.no_grad()
def augmented_images(model: AdversarialModule, images: Tensor) -> Tensor:
    """Return images as the discriminator sees them in the step; the step's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(counter_seed("doctor", model.seed, model.images_seen))
        images = images.to(model.device)
        for augmentation in model.augmentations.values():
            images = augmentation(images)
    return images


@torch.no_grad()
def _raw_images(model: GenerativeModule, z: Tensor, labels: Tensor | None, sources: Tensor | None) -> Tensor:
    """Return images of the generator itself, not of its average."""
    labels = None if labels is None else labels[: len(z)].to(model.device)
    sources = None if sources is None else sources[: len(z)].to(model.device)
    with evaluating(model.generator), torch.autocast(model.device.type, enabled=False):
        return model.made_by(model.generator, z.to(model.device), labels, sources).float()


def _logits_of(model: AdversarialModule, images: Tensor, labels: Tensor | None) -> Tensor:
    labels = None if labels is None else labels[: len(images)].to(model.device)
    features = model.discriminator.features(images.to(model.device))
    return model.discriminator.head(features, labels).float()


def _with_features(model: GenerativeModule) -> HasFeatures | None:
    """Return the metrics that give features, or the one of several that does."""
    metrics = model.metrics
    return metrics if isinstance(metrics, HasFeatures) else getattr(metrics, "with_features", None)


def _first_batches(data: TrainingData, count: int) -> Iterator[Batch]:
    """Yield batches of the first training images in the order of their index, ``count`` images or a few more."""
    seen = 0
    for batch in data.ordered_batches():
        yield batch
        seen += len(batch["image"])
        if seen >= count:
            return
