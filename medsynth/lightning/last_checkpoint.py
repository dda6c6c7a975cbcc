"""The checkpoint that a run goes on from: with each validation, and when the run is asked to stop."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from medsynth.lightning.stop_signals import RunStopped, StopSignals
from medsynth.runs.provenance import fingerprint

_log = logging.getLogger(__name__)
RECORD = "resume"  # in each checkpoint: what a resumed run has to know beyond Lightning's counters


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` into ``dirpath`` after each validation, and when a signal (``stop.SIGNALS``) asks to stop.

    The run then ends with the step, or with the batch of a validation, that it is at. Several processes end together:
    they agree after each step. A validation that is due or was interrupted is done by the resumed run before it trains
    on, so that nothing differs from a run that was not stopped. ``trainer.max_time`` counts from each start anew.

    A ``Checkpoint`` to Lightning, which calls those after all other callbacks: when the step is recorded.

    Args:
        dirpath: folder of the checkpoints.
        keep: how many older ones stay, as last-1.ckpt and so on, for the case that the last is damaged.
    """

    def __init__(self, *, dirpath: str, keep: int = 1):
        self.path = Path(dirpath) / "last.ckpt"
        self.keep = keep
        self._signals = StopSignals()
        self._data: str | None = None
        self._validation_due = False  # as of the checkpoint that is written or was read
        self._common_batches = 0
        self._check_interval: int | float | None = None
        self._seconds_before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of the training so far, with what came before the checkpoint that it goes on from."""
        return self._seconds_before + time.perf_counter() - self._began

    # ---- the run -----------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals = StopSignals()
        self._signals.listen()
        if self._validation_due:  # Lightning asks this number, and comes here before the first step
            self._check_interval, trainer.val_check_batch = trainer.val_check_batch, 1

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._signals.patient = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._agreed(pl_module):
            batches = trainer.fit_loop.total_batch_idx + 1
            ended = pl_module.images_seen >= pl_module.max_images
            self._stop(trainer, validation_due=ended or batches % trainer.val_check_batch == 0)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.patient = True
        if self._check_interval is not None:
            trainer.val_check_batch, self._check_interval = self._check_interval, None
            trainer.should_stop = pl_module.images_seen >= pl_module.max_images
        self._common_batches = -_largest(-sum(trainer.num_val_batches), pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        # Some processes may have a batch more than others, who would not be there to answer.
        if batch_idx < self._common_batches and self._agreed(pl_module):
            self._stop(trainer, validation_due=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_due = False
        self._save(trainer)

    # ---- the file ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._data = self._data or fingerprint(trainer.datamodule)
        checkpoint[RECORD] = {
            "validation_due": self._validation_due,
            "data_fingerprint": self._data,
            "processes": trainer.world_size,
            "seconds": self.seconds,
        }
        checkpoint["callbacks"].pop("Timer", None)
        _say_position(checkpoint["loops"]["fit_loop"], trainer.num_training_batches, self._validation_due)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        record = checkpoint.get(RECORD, {})
        before, now = record.get("processes", trainer.world_size), trainer.world_size
        if before != now:
            _log.warning(
                "Resumed with %d processes instead of %d: right, but no longer bit for bit what the run would have "
                "been, since sums are rounded in another order.",
                now,
                before,
            )
        self._validation_due = record.get("validation_due", False)
        self._seconds_before = record.get("seconds", 0.0)
        if pl_module.images_seen >= pl_module.max_images:  # it came to no end: the last validation is done once more
            self._validation_due = True
            _interrupt_validation(checkpoint["loops"]["fit_loop"])
        _move(checkpoint["callbacks"], self.path.parent)

    def _stop(self, trainer: pl.Trainer, *, validation_due: bool) -> None:
        self._validation_due = validation_due
        self._save(trainer)
        raise RunStopped(requeue=self._signals.requeue)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False, storage_options={"keep": self.keep})

    def _agreed(self, pl_module: pl.LightningModule) -> bool:
        """Whether any process was asked to stop."""
        return _largest(int(self._signals.requested), pl_module.device) > 0


def _largest(value: int, device: torch.device) -> int:
    """Over all processes."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    tensor = torch.tensor(value, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def _say_position(loops: dict[str, Any], batches_in_epoch: int, validation_due: bool) -> None:
    """Let Lightning's counters say one of two things: between two steps, or before a validation.

    They differ by the hook that a checkpoint is written in, and at the end of an epoch a resumed run would validate
    once more, or not at all, or count another epoch.
    """
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    ended, position = divmod(batches["current"]["processed"], batches_in_epoch)
    for name in ("total", "current"):
        _set(batches[name], batches["total"]["processed"] if name == "total" else position)
        _set(epochs[name], epochs[name]["processed"] + ended)
        epochs[name].update(ready=epochs[name]["processed"] + 1, started=epochs[name]["processed"] + 1)
        _set(loops["epoch_loop.val_loop.batch_progress"][name], 0)
    batches["is_last_batch"] = loops["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False
    if validation_due:
        _interrupt_validation(loops)


def _interrupt_validation(loops: dict[str, Any]) -> None:
    """In its first batch, that is: how Lightning tells that a validation has to be done again."""
    loops["epoch_loop.val_loop.batch_progress"]["total"].update(ready=1, started=1)


def _set(counts: dict[str, int], value: int) -> None:
    counts.update(dict.fromkeys(counts, value))


def _move(states: dict[str, dict[str, Any]], folder: Path) -> None:
    """Let ``ModelCheckpoint`` look for its files where the folder is now: it would forget the best value otherwise."""
    for key, state in states.items():
        if not key.startswith(ModelCheckpoint.__qualname__):
            continue
        state["dirpath"] = str(folder)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = str(folder / Path(state[name]).name) if state.get(name) else ""
        state["best_k_models"] = {str(folder / Path(path).name): v for path, v in state["best_k_models"].items()}
