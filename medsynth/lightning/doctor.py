"""The callback that feeds the doctor: signals of each validation into a file, and findings into words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch

from medsynth.contracts import Batch, InputError, TrainingData
from medsynth.diagnosis.advice import InUse
from medsynth.diagnosis.course import typical
from medsynth.diagnosis.diagnose import diagnose
from medsynth.diagnosis.finding import Finding
from medsynth.diagnosis.history import history_signals
from medsynth.diagnosis.pictures import evidence
from medsynth.diagnosis.rules import REMARKS
from medsynth.diagnosis.signals import Observation, signals
from medsynth.diagnosis.stopping import worth_continuing
from medsynth.lightning.adversarial import AdversarialModule
from medsynth.lightning.distributed import averaged
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.observing import ObservedImages, copies
from medsynth.lightning.sample_grid import save_picture, side_by_side
from medsynth.lightning.step_values import StepValues, write_rows
from medsynth.lightning.trainer_access import FindingLogger, training_data

_log = logging.getLogger(__name__)
_SAID_BY_THE_DATA = ("few_validation_images",)  # at the start


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
        self.rows: list[dict[str, Any]] = []
        self.stopped_at: int | None = None  # images seen, where it ended the training
        self.proposal: Finding | None = None
        self._told: set[str] = set()
        self._steps = StepValues()
        self._typical: dict[str, float] = {}
        self._images = ObservedImages(num_images=num_images, num_training=num_training)

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
        self._images.begin()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep the first images of the validation, generated and real."""
        if self.enabled and trainer.is_global_zero:
            self._images.add(pl_module, cast(Batch, batch), outputs)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Compute the signals and write the row."""
        if self.enabled and trainer.is_global_zero and len(self._images):
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
        observation = self._images.observe(trainer, pl_module, steps, self._typical)
        values = signals(observation) | history_signals(seen, observation.objective, self.rows)
        self.rows.append({"images_seen": seen, "signals": values})
        write_rows(self.path, self.rows)
        for finding in self.findings(pl_module):
            if finding.name not in self._told:
                self._told.add(finding.name)
                self._say(trainer, finding)
                self._draw(finding.name, observation, pl_module, training_data(trainer))

    def _say(self, trainer: pl.Trainer, finding: Finding) -> None:
        if finding.name not in _SAID_BY_THE_DATA:
            _log.warning("%s", finding.text())
        for logger in trainer.loggers:
            if isinstance(logger, FindingLogger):
                logger.log_finding(finding.record(), finding.text())

    def _draw(self, name: str, observation: Observation, model: GenerativeModule, data: TrainingData) -> None:
        """Write the picture that shows a finding beside the rows; it stays there, since it may show training images."""
        panels = copies(observation, model, data) if name == "copying" else evidence(name, observation)
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
