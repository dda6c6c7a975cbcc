"""What a run came to: summary.json, there from its first moment on, and whole at its end, also where it failed."""

from __future__ import annotations

import contextlib
import logging
import platform
import resource
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import medsynth
from medsynth.backbone.survey import count_parameters
from medsynth.errors import EndCode, InputError, sentence_of
from medsynth.files import write_json
from medsynth.gan import GAN, TrainingDiverged
from medsynth.lightning.generator_export import GeneratorExport
from medsynth.lightning.last_checkpoint import LastCheckpoint
from medsynth.report.curves import draw_curves
from medsynth.runs.layout import METRICS, SUMMARY, read_json
from medsynth.runs.provenance import describe, facts
from medsynth.runs.run_folder import shown
from medsynth.runs.status import DIVERGED, FAILED, RUNNING, STOPPED, this_process

_log = logging.getLogger(__name__)
_PACKAGES = ("torch", "pytorch-lightning", "timm", "monai", "torchmetrics", "hydra-core")


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """summary.json says ``running`` and in which process; after an error, how and why the run ended."""
    path, process = folder / SUMMARY, {"process": this_process()}
    before = read_json(path)
    write_json(path, {"medsynth": medsynth.__version__, "status": RUNNING, **process})
    try:
        yield
    except BaseException as error:
        found = read_json(path)
        ended = {**found, "status": status_of(error), "reason": sentence_of(error), **process}
        refused = before and found.get("status") == RUNNING  # a resume that came to nothing changes nothing
        write_json(path, before if refused else ended)
        raise


def report(folder: Path) -> None:
    """Write the run's report.html; that it cannot be done is no failure of the training."""
    try:
        from medsynth.report.page import write_report  # here, since its libraries take a second

        write_report([folder], folder / "report.html")
    except Exception as error:
        _log.warning("The report could not be written: %s", sentence_of(error))


def status_of(error: BaseException) -> str:
    """One of ``run_folder.STATUSES`` for a run that has ended by ``error``."""
    if isinstance(error, TrainingDiverged):
        return DIVERGED
    stopped = isinstance(error, Stopped | KeyboardInterrupt | SystemExit)
    return STOPPED if stopped else FAILED


class Stopped(InputError):
    """The user, or the system, has asked the run to end; ``requeue``: SLURM is to start it again."""

    code = EndCode.INTERRUPTED

    def __init__(self, sentence: str, *, requeue: bool = False):
        super().__init__(sentence)
        self.requeue = requeue


class Outcome:
    """What is known of a run at its end, also of one that failed; written to summary.json and drawn as curves."""

    def __init__(self, folder: Path, trainer: pl.Trainer, model: GAN, data: pl.LightningDataModule):
        self.folder, self.trainer, self.model, self.data = folder, trainer, model, data
        self.started = time.perf_counter()
        self.images_before = model.images_seen
        _forget_peak_memory()

    @property
    def images(self) -> int:
        """Real images seen since then."""
        return self.model.images_seen - self.images_before

    def finish(self, status: str) -> dict[str, Any]:
        """Write curves and summary.json; returns the summary. ``status`` is one of ``run_folder.STATUSES``."""
        seconds = time.perf_counter() - self.started
        curves = draw_curves(self.folder / METRICS, self.folder / "curves")
        summary = {
            "medsynth": medsynth.__version__,
            "status": status,
            "process": read_json(self.folder / SUMMARY).get("process"),
            "trained": describe(self.model),
            "data": self.data.description,
            "images_seen": self.model.images_seen,
            "generator_updates": self.model.generator_updates,
            "discriminator_updates": self.model.discriminator_updates,
            "seconds": next((c.seconds for c in self.trainer.callbacks if isinstance(c, LastCheckpoint)), seconds),
            "images_per_second": self.images / seconds,
            "precision": str(self.trainer.precision),
            "device": _device_name(self.model.device),
            "torch": torch.__version__,
            "environment": {**facts(self.trainer, self.model), **_versions()},
            "peak_memory_gib": _peak_memory() / 2**30,
            "weights": self._weights(),
            "metrics": {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")},
            "best": self._best(),
            "files": self._files(bool(curves)),
            "next": f"medsynth generate run={shown(self.folder)} num_samples=64 out=generated",
        }
        write_json(self.folder / SUMMARY, summary)
        return summary

    def _weights(self) -> dict[str, int]:
        groups = self.model.discriminator.parameter_groups()
        return {
            "generator": count_parameters(self.model.generator),
            "discriminator": count_parameters(self.model.discriminator),
            "discriminator_trained": sum(weight.numel() for group in groups for weight in group["params"]),
        }

    def _best(self) -> dict[str, Any]:
        export = next(c for c in self.trainer.callbacks if isinstance(c, GeneratorExport))
        return {"objective": export.objective, "value": export.best, "images_seen": export.best_images_seen}

    def _files(self, curves: bool) -> dict[str, str | None]:
        places = {
            "samples": "samples/latest.png",
            "checkpoint": "checkpoints/last.ckpt",
            "best_checkpoint": "checkpoints/best.ckpt",
            "generator": "generator.safetensors",
            "log": METRICS,
            "configuration": "config.yaml",
        }
        files = {name: shown(self.folder / place) for name, place in places.items() if (self.folder / place).exists()}
        return files | ({"curves": shown(self.folder / "curves")} if curves else {})


def last_checkpoint(folder: Path) -> str:
    """A sentence that says where the last good checkpoint is and how to go on from it."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return "There is no checkpoint yet."
    return f"The last good checkpoint is {shown(last)}; resume={shown(folder)} goes on from it."


def _forget_peak_memory() -> None:
    """Jobs of a sweep share a process: each is to have a peak of its own."""
    with contextlib.suppress(OSError):  # Linux alone has this
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_memory() -> int:
    """Bytes, of the GPU where one is used, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _versions() -> dict[str, str]:
    """Of the interpreter, the system, and the libraries that results depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "system": platform.platform(), **packages}
