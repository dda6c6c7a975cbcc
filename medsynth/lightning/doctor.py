"""The callback that feeds the doctor: signals of each validation into a file, and findings into words."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from medsynth.contracts import Batch, HasFeatures, InputError, TrainingData, counter_seed
from medsynth.diagnosis.advice import InUse
from medsynth.diagnosis.course import STEP_VALUES, typical
from medsynth.diagnosis.diagnose import diagnose
from medsynth.diagnosis.finding import Finding
from medsynth.diagnosis.history import history_signals
from medsynth.diagnosis.pictures import evidence, nearest_training
from medsynth.diagnosis.rules import REMARKS
from medsynth.diagnosis.signals import FeatureSets, LogitSets, Observation, signals
from medsynth.diagnosis.stopping import worth_continuing
from medsynth.files import replacing
from medsynth.lightning.adversarial import AdversarialModule
from medsynth.lightning.distributed import averaged
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.preparation import evaluating
from medsynth.lightning.sample_grid import save_picture, side_by_side
from medsynth.lightning.trainer_access import FindingLogger, training_data

_log = logging.getLogger(__name__)
Steps = Mapping[str, Sequence[float]]
_MOST_STEPS = 1024  # values of a course that are kept; every second is dropped beyond
_SAID_BY_THE_DATA = ("few_validation_images",)  # at the start
_FEW = 128  # images that logits, and images of the raw generator, are computed of


class Doctor(pl.Callback):
    """Watches the steps, tests each validation, and says what is wrong, each fault once.

    Each validation adds a row to ``path``: the images seen and the signals (``medsynth/diagnosis``). A picture that
    shows a finding is written to the folder beside that file, ``diagnosis/mode_collapse.png``. It reads what the
    training computes anyway and few images beyond, changes nothing, and works in the first process alone; where it
    is asked to stop the training, the others follow.

    Args:
        path: the file of the rows, ``diagnosis.jsonl`` in the run's folder.
        enabled: False: do nothing.
        stop: ``early``: end the training when more images are not worth it (``diagnosis/stopping.py``); None: never.
        act: end the training at the first fault with an override to try, which ``proposal`` is then; whoever started
            the run starts the next one.
        num_images: validation images, and as many generated ones, that appearance and features are compared on.
        num_training: training images whose features are kept, to find copies of them.
    """

    def __init__(
        self,
        *,
        path: str,
        enabled: bool = True,
        stop: str | None = None,
        act: bool = False,
        num_images: int = 256,
        num_training: int = 1024,
    ):
        if stop not in (None, "early"):
            raise InputError(f"doctor.stop={stop} is not known: choose early, or null for never.")
        if num_images < 1 or num_training < 1:
            raise InputError(
                "callbacks.doctor.num_images and num_training start at 1; doctor.enabled=false turns it off."
            )
        self.path = Path(path)
        self.enabled = enabled
        self.stop, self.act = stop, act
        self.num_images, self.num_training = num_images, num_training
        self.rows: list[dict[str, Any]] = []
        self.stopped_at: int | None = None  # images seen, where it ended the training
        self.proposal: Finding | None = None
        self._told: set[str] = set()
        self._steps = StepValues()
        self._typical: dict[str, float] = {}
        self._batches: list[_Validated] = []  # of this process
        self._training: list[Batch] = []  # the first training images, for logits
        self._training_features: Tensor | None = None

    # ---- the steps ---------------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the step's values; they stay on the device."""
        if self.enabled and trainer.is_global_zero:
            self._steps.add(outputs)

    # ---- validation --------------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Forget the images of the validation before."""
        self._batches = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep the first images of the validation, generated and real."""
        if self.enabled and trainer.is_global_zero and sum(len(b.fake) for b in self._batches) < self.num_images:
            batch = cast(Batch, batch)
            start = int(batch["index"][0])
            self._batches.append(_Validated(outputs.cpu(), batch["image"].cpu(), batch.get("label"), start))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Compute the signals and write the row."""
        if self.enabled and trainer.is_global_zero and self._batches:
            self._examine(trainer, pl_module)
        if self.stop is not None or self.act:
            self._end_if_decided(trainer, pl_module)

    def findings(self, model: GenerativeModule) -> list[Finding]:
        """Return the faults that the last validations show."""
        return diagnose(self.rows, in_use=in_use(model))

    def _examine(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Add a row, and say the findings that were not said before."""
        seen = pl_module.images_seen
        self.rows = [row for row in self.rows if row["images_seen"] < seen]
        steps = self._steps.take()
        self._typical = self._typical or typical(steps)
        observation = self._observe(trainer, pl_module, steps)
        values = signals(observation) | history_signals(seen, observation.objective, self.rows)
        self.rows.append({"images_seen": seen, "signals": values})
        write_rows(self.path, self.rows)
        for finding in self.findings(pl_module):
            if finding.name not in self._told:
                self._told.add(finding.name)
                self._say(trainer, finding)
                self._draw(finding.name, observation, training_data(trainer))

    def _say(self, trainer: pl.Trainer, finding: Finding) -> None:
        if finding.name not in _SAID_BY_THE_DATA:
            _log.warning("%s", finding.text())
        for logger in trainer.loggers:
            if isinstance(logger, FindingLogger):
                logger.log_finding(finding.record(), finding.text())

    def _draw(self, name: str, observation: Observation, data: TrainingData) -> None:
        """Write the picture that shows a finding beside the rows; it stays there, since it may show training images."""
        panels = _copies(observation, data) if name == "copying" else evidence(name, observation)
        if panels:
            folder = self.path.with_suffix("")
            folder.mkdir(parents=True, exist_ok=True)
            save_picture(side_by_side(panels), folder / f"{name}.png")

    def _end_if_decided(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """End the training, in all processes, where the first one finds that more images would not improve it."""
        decided = False
        if self.enabled and trainer.is_global_zero and pl_module.images_seen < pl_module.max_images:
            if self.act:
                faults = [f for f in self.findings(pl_module) if f.name not in REMARKS and f.advice]
                self.proposal = faults[0] if faults else None
            decided = self.proposal is not None or (self.stop is not None and not worth_continuing(self.rows))
        if averaged({"decided": torch.tensor(float(decided), device=pl_module.device)})["decided"] > 0:
            self.stopped_at = pl_module.images_seen
            trainer.should_stop = True

    def _observe(self, trainer: pl.Trainer, model: GenerativeModule, steps: Steps) -> Observation:
        fake = torch.cat([b.fake for b in self._batches])[: self.num_images]
        real = torch.cat([b.real for b in self._batches])[: self.num_images]
        labels = self._labels(model)
        noises = [model.validation_noise(len(b.fake), b.start) for b in self._batches]
        raw, augmented = _raw_images(model, torch.cat(noises)[:_FEW], labels), None
        if isinstance(model, AdversarialModule) and model.augmentations:
            augmented = _augmented(model, real[:_FEW])
        self._know_training(model, training_data(trainer))
        objective = trainer.callback_metrics.get(getattr(trainer.checkpoint_callback, "monitor", None) or "", math.nan)
        return Observation(
            fake=fake,
            real=real,
            labels=labels,
            raw=raw.cpu(),
            augmented=None if augmented is None else augmented.cpu(),
            features=self._features(model, len(fake), raw, augmented),
            logits=self._logits(model, fake, real, labels),
            steps=steps,
            earlier=self._typical,
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
                features.append(source.features_of(batch["image"]).cpu())
        self._training_features = torch.cat(features) if features else None

    def _labels(self, model: GenerativeModule) -> Tensor | None:
        labels = [b.labels for b in self._batches if b.labels is not None]
        return torch.cat(labels).cpu()[: self.num_images] if model.num_classes and labels else None

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

    def _logits(self, model: GenerativeModule, fake: Tensor, real: Tensor, labels: Tensor | None) -> LogitSets | None:
        if not isinstance(model, AdversarialModule):
            return None
        training = torch.cat([batch["image"] for batch in self._training])[:_FEW]
        own = None
        if model.num_classes:
            own = torch.cat([label for b in self._training if (label := b.get("label")) is not None])[:_FEW]
        with evaluating(model.discriminator), torch.no_grad():
            return LogitSets(
                training=_logits_of(model, training, own),
                held_out=_logits_of(model, real[:_FEW], labels),
                fake=_logits_of(model, fake[:_FEW], labels),
                loss=model.loss,
            )

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, and the values of the steps since the last validation."""
        return {
            "rows": self.rows,
            "told": sorted(self._told),
            "typical": self._typical,
            "steps": self._steps.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows and the steps of a checkpoint."""
        self.rows, self._typical = list(state_dict["rows"]), dict(state_dict["typical"])
        self._told = set(state_dict["told"])
        self._steps.load_state_dict(state_dict["steps"])


class _Validated(NamedTuple):
    """A batch of a validation: generated and real images of the same labels, and the number of its first image."""

    fake: Tensor
    real: Tensor
    labels: Tensor | None
    start: int


class StepValues:
    """Values of steps by name, thinned to at most ``_MOST_STEPS`` equally spaced ones."""

    def __init__(self) -> None:
        self._every, self._count = 1, 0
        self._values: dict[str, list[Tensor | float]] = {}

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Keep the values of a step, if it is its turn."""
        self._count += 1
        if self._count % self._every:
            return
        for name in STEP_VALUES:
            if name in outputs:
                self._values.setdefault(name, []).append(outputs[name].detach())
        if max((len(values) for values in self._values.values()), default=0) >= _MOST_STEPS:
            self._every *= 2
            self._values = {name: values[1::2] for name, values in self._values.items()}

    def take(self) -> dict[str, list[float]]:
        """Return the values as numbers, and begin anew."""
        values = self._numbers()
        self._every, self._count, self._values = 1, 0, {}
        return values

    def _numbers(self) -> dict[str, list[float]]:
        return {
            name: torch.stack([torch.as_tensor(value).double().cpu() for value in values]).tolist()
            for name, values in self._values.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"every": self._every, "count": self._count, "values": self._numbers()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self._every, self._count = state["every"], state["count"]
        self._values = {name: list(values) for name, values in state["values"].items()}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row of JSON per line, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _with_features(model: GenerativeModule) -> HasFeatures | None:
    """Return the metrics that give features, or the one of several that does."""
    metrics = model.metrics
    return metrics if isinstance(metrics, HasFeatures) else getattr(metrics, "with_features", None)


def in_use(model: GenerativeModule) -> InUse:
    """Return the choices of a run that advice depends on, by the names of its components."""
    groups = ("penalties", "generator_penalties", "augmentations")
    choices = {
        group: tuple(getattr(model, several, {}))
        for group, several in zip(("penalty", "generator_penalty", "augment"), groups, strict=True)
    }
    for group in ("generator", "discriminator", "loss"):
        component = getattr(model, group, None)
        choices[group] = () if component is None else (type(component).__module__.rpartition(".")[2],)
    modules = model.discriminator.modules() if isinstance(model, AdversarialModule) else ()
    layers = {type(module).__module__ for module in modules}
    choices["minibatch"] = tuple(n.rpartition(".")[2] for n in layers if n.startswith("medsynth.minibatch."))
    rates = {model.network_of(optimizer): optimizer.defaults["lr"] for optimizer in model.trainer.optimizers}
    return InUse(choices, rates, model.max_images)


def _first_batches(data: TrainingData, count: int) -> Iterator[Batch]:
    """Yield batches of the first training images in the order of their index, ``count`` images or a few more."""
    seen = 0
    for batch in data.ordered_batches():
        yield batch
        seen += len(batch["image"])
        if seen >= count:
            return


def _copies(observation: Observation, data: TrainingData) -> dict[str, Tensor]:
    """Return generated images, each with the nearest training image after it."""
    pairs = nearest_training(observation)
    last = max((number for _, number in pairs), default=-1)
    known = torch.cat([batch["image"].cpu() for batch in _first_batches(data, last + 1)]) if pairs else None
    if known is None:
        return {}
    shown = [image for made, trained in pairs for image in (observation.fake[made], known[trained])]
    return {"generated, training": torch.stack(shown)}


@torch.no_grad()
def _raw_images(model: GenerativeModule, z: Tensor, labels: Tensor | None) -> Tensor:
    """Return images of the generator itself, not of its average."""
    labels = None if labels is None else labels[: len(z)].to(model.device)
    with evaluating(model.generator), torch.autocast(model.device.type, enabled=False):
        return model.generator(z.to(model.device), labels).float()


@torch.no_grad()
def _augmented(model: AdversarialModule, images: Tensor) -> Tensor:
    """Return images as the discriminator sees them in the step; the step's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(counter_seed("doctor", model.seed, model.images_seen))
        images = images.to(model.device)
        for augmentation in model.augmentations.values():
            images = augmentation(images)
    return images


def _logits_of(model: AdversarialModule, images: Tensor, labels: Tensor | None) -> Tensor:
    labels = None if labels is None else labels[: len(images)].to(model.device)
    features = model.discriminator.features(images.to(model.device))
    return model.discriminator.head(features, labels).float()
