"""The callback that writes the checkpoint to resume from: with each validation, and when the run is asked to stop."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.stop_signals import RunStopped, StopSignals
from medsynth.lightning.trainer_access import training_data
from medsynth.runs.provenance import fingerprint

_log = logging.getLogger(__name__)
RECORD = "resume"  # entry of each checkpoint: what a resumed run needs beyond Lightning's counters


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` into ``dirpath`` after each validation, and when a signal (``SIGNALS``) asks to stop.

    A run that is asked to stop ends with the current step, or with the current batch of a validation. Several processes
    end together: they agree after each step. The resumed run first does a validation that was due or interrupted, so
    that it equals a run that was not stopped. ``trainer.max_time`` counts from each start anew.

    It is one of Lightning's ``Checkpoint`` callbacks, which come after all others: when the step is recorded.

    Args:
        dirpath: folder of the checkpoints.
        keep: how many older checkpoints stay, as last-1.ckpt and so on, in case the last is damaged.
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
        """Seconds of the training so far, those before it was resumed included."""
        return self._seconds_before + time.perf_counter() - self._began

    # ---- the run -----------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Listen to signals; have a validation that is due done at once."""
        self._signals = StopSignals()
        self._signals.listen()
        if self._validation_due:  # Lightning reads this number after each step
            self._check_interval, trainer.val_check_batch = trainer.val_check_batch, 1

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Let signals wait for the end of the step."""
        self._signals.patient = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the run, if any process was asked to."""
        if self._agreed(pl_module):
            batches = trainer.fit_loop.total_batch_idx + 1
            ended = pl_module.images_seen >= pl_module.max_images
            due = trainer.val_check_batch is not None and batches % trainer.val_check_batch == 0
            self._stop(trainer, validation_due=ended or due)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Put the interval of validations back, and count the batches that all processes have."""
        self._signals.patient = True
        if self._check_interval is not None:
            trainer.val_check_batch, self._check_interval = self._check_interval, None
            trainer.should_stop = pl_module.images_seen >= pl_module.max_images
        self._common_batches = -_largest(-int(sum(trainer.num_val_batches)), pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: GenerativeModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Stop the run, if any process was asked to."""
        # A process may have one batch more than the others, which do not take part in an exchange then.
        if batch_idx < self._common_batches and self._agreed(pl_module):
            self._stop(trainer, validation_due=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: GenerativeModule) -> None:
        """Write the checkpoint."""
        self._validation_due = False
        self._save(trainer)

    # ---- the file ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: GenerativeModule, checkpoint: dict[str, Any]) -> None:
        """Add the record that a resumed run needs."""
        self._data = self._data or fingerprint(training_data(trainer))
        checkpoint[RECORD] = {
            "validation_due": self._validation_due,
            "data_fingerprint": self._data,
            "processes": trainer.world_size,
            "seconds": self.seconds,
        }
        checkpoint["callbacks"].pop("Timer", None)
        _move(checkpoint["callbacks"], Path())  # it may leave this machine, whose folders it does not name
        _set_position(checkpoint["loops"]["fit_loop"], int(trainer.num_training_batches), self._validation_due)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: GenerativeModule, checkpoint: dict[str, Any]) -> None:
        """Take the record; have the last validation repeated where the run ended before it was over."""
        record = checkpoint.get(RECORD, {})
        before, now = record.get("processes", trainer.world_size), trainer.world_size
        if before != now:
            _log.warning(
                "Resumed with %d processes instead of %d: the results are correct, but not bit for bit those of the "
                "uninterrupted run, since sums are rounded in another order.",
                now,
                before,
            )
        self._validation_due = record.get("validation_due", False)
        self._seconds_before = record.get("seconds", 0.0)
        if pl_module.images_seen >= pl_module.max_images:  # it was stopped in its last validation
            self._validation_due = True
            _interrupt_validation(checkpoint["loops"]["fit_loop"])
        _move(checkpoint["callbacks"], self.path.parent)

    def _stop(self, trainer: pl.Trainer, *, validation_due: bool) -> None:
        self._validation_due = validation_due
        self._save(trainer)
        raise RunStopped(requeue=self._signals.requeue)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False, storage_options={"keep": self.keep})

    def _agreed(self, pl_module: GenerativeModule) -> bool:
        """Return True if any process was asked to stop."""
        return _largest(int(self._signals.requested), pl_module.device) > 0


def _largest(value: int, device: torch.device) -> int:
    """Return the largest value over all processes."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    tensor = torch.tensor(value, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def _set_position(loops: dict[str, Any], batches_in_epoch: int, validation_due: bool) -> None:
    """Set Lightning's counters to one of two positions: between two steps, or before a validation.

    As Lightning leaves them, they depend on the hook in which the checkpoint is written, and at the end of an epoch a
    resumed run would validate once more, or not at all, or count another epoch.
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
    """Set the counters of a validation that was interrupted in its first batch: Lightning then repeats it."""
    loops["epoch_loop.val_loop.batch_progress"]["total"].update(ready=1, started=1)


def _set(counts: dict[str, int], value: int) -> None:
    counts.update(dict.fromkeys(counts, value))


def _move(states: dict[str, dict[str, Any]], folder: Path) -> None:
    """Point ``ModelCheckpoint`` to its files in ``folder``: none in a checkpoint, the present one in a resumed run."""
    for key, state in states.items():
        if not key.startswith(ModelCheckpoint.__qualname__):
            continue
        state["dirpath"] = str(folder)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = str(folder / Path(state[name]).name) if state.get(name) else ""
        state["best_k_models"] = {str(folder / Path(path).name): v for path, v in state["best_k_models"].items()}
