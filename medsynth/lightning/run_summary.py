"""Writing of summary.json and the curves at the end of a run, also of one that failed."""

from __future__ import annotations

import contextlib
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import medsynth
from medsynth.configuration.objectives import directions
from medsynth.errors import EndCode, InputError
from medsynth.files import write_json
from medsynth.lightning.distributed import leave_processes
from medsynth.lightning.doctor import Doctor
from medsynth.lightning.generator_export import GeneratorExport
from medsynth.lightning.last_checkpoint import LastCheckpoint
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import training_data
from medsynth.logger.wandb import place_of
from medsynth.report.curves import draw_curves
from medsynth.runs.launcher_environment import rank
from medsynth.runs.layout import DIAGNOSIS, EARLIER_FEATURES, FEATURES, GENERATOR, METRICS, SUMMARY
from medsynth.runs.placement import shown
from medsynth.runs.provenance import provenance
from medsynth.runs.records import read_json
from medsynth.runs.run_end import Interrupted, RunEnd, end_of
from medsynth.runs.run_folder import RunFolder, last_checkpoint

_PACKAGES = ("torch", "pytorch-lightning", "timm", "monai", "torchmetrics", "hydra-core")


@contextlib.contextmanager
def summarized(run: RunFolder, trainer: pl.Trainer, model: GenerativeModule) -> Iterator[None]:
    """Write summary.json and the curves when the fit inside ends, however it ends; the first process does.

    Raises:
        InputError: the fit was interrupted or diverged; the message says where the last checkpoint is.
    """
    predecessor = run.config.get("doctor", {}).get("predecessor")  # runs of earlier versions have no doctor
    summary = RunSummary(run.path, trainer, model, better=directions(run.config), predecessor=predecessor)
    try:
        with _with_checkpoint_named(run.path, model):
            yield
    except BaseException as error:
        if rank() == 0 and not (run.resumed and summary.images == 0):  # a resume that did nothing changes nothing
            summary.write(end_of(error))
        raise
    if rank() == 0:
        summary.write(RunEnd(EndCode.COMPLETED))
        for name in (FEATURES, EARLIER_FEATURES):  # after a failure resume= reads them
            shutil.rmtree(run.path / name, ignore_errors=True)
    leave_processes()


@contextlib.contextmanager
def _with_checkpoint_named(folder: Path, model: GenerativeModule) -> Iterator[None]:
    """Add to the message of an end how to resume from the last checkpoint."""
    try:
        yield
    except InputError as error:
        if error.code != EndCode.DIVERGED:
            raise
        raise InputError(f"{error} {last_checkpoint(folder)}", code=error.code) from error
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the one into the other
        sentence = f"Stopped after {model.images_seen:,} images. {last_checkpoint(folder)}"
        raise Interrupted(sentence, requeue=getattr(stop, "requeue", False)) from stop


class RunSummary:
    """Measurements of a run from now to its end.

    Args:
        folder: of the run.
        trainer: fits the model.
        model: the GAN.
        better: "lower" or "higher" for each measure that the run logs.
        predecessor: folder of the run that this one follows by the doctor's proposal; None: none.
    """

    def __init__(
        self,
        folder: Path,
        trainer: pl.Trainer,
        model: GenerativeModule,
        *,
        better: Mapping[str, str],
        predecessor: str | None = None,
    ):
        self.folder, self.trainer, self.model, self.better = folder, trainer, model, dict(better)
        self.predecessor = predecessor
        self.started = time.perf_counter()
        self.images_before = model.images_seen
        _reset_peak_memory()

    @property
    def images(self) -> int:
        """Real images seen since this object was created."""
        return self.model.images_seen - self.images_before

    def write(self, end: RunEnd) -> None:
        """Draw the curves and write summary.json."""
        seconds = time.perf_counter() - self.started
        data = training_data(self.trainer)
        precision = str(self.trainer.precision)
        device = self.trainer.strategy.root_device  # after the fit the model is on the CPU again
        origin = provenance(self.model, data, device=device, processes=self.trainer.world_size, precision=precision)
        curves = draw_curves(self.folder / METRICS, self.folder / "curves")
        summary = {
            "medsynth": medsynth.__version__,
            **end.record(),
            "process": read_json(self.folder / SUMMARY).get("process"),
            "trained": self.model.describe(),
            "data": data.description,
            "data_cautions": list(getattr(data, "cautions", ())),
            "images_seen": self.model.images_seen,
            **{name: getattr(self.model, name) for name in self.model.counters if name != "images_seen"},
            "seconds": next((c.seconds for c in _callbacks(self.trainer) if isinstance(c, LastCheckpoint)), seconds),
            "images_per_second": self.images / seconds,
            "precision": precision,
            "device": _device_name(device),
            "torch": torch.__version__,
            "environment": {**origin, **_versions()},
            "peak_memory_gib": _peak_memory(device) / 2**30,
            "parameters": self.model.parameter_counts(),
            "metrics": {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")},
            "better": self.better,
            "best": self._best(),
            **self._copied(),
            **self._diagnosis(),
            "predecessor": self.predecessor,
            "files": self._files(bool(curves)),
            "wandb": place_of(self.folder),
            "test": f"medsynth evaluate run={shown(self.folder)}" if data.num_test else None,
            "next": self.model.next_command(shown(self.folder)),
        }
        write_json(self.folder / SUMMARY, summary)

    def _best(self) -> dict[str, Any]:
        export = next(c for c in _callbacks(self.trainer) if isinstance(c, GeneratorExport))
        return {"objective": export.objective, "value": export.best, "images_seen": export.best_images_seen}

    def _copied(self) -> dict[str, float]:
        """Return the objective's value of the source copied unchanged, where a translation has measured it."""
        objective = str(self._best()["objective"]).removeprefix("val/")
        values = self.trainer.callback_metrics
        return {"copied": float(values[f"val/copy_{objective}"])} if f"val/copy_{objective}" in values else {}

    def _diagnosis(self) -> dict[str, Any]:
        """Return the findings, when the doctor ended the training, and which override it proposes for a next run."""
        doctor = next((c for c in _callbacks(self.trainer) if isinstance(c, Doctor)), None)
        if doctor is None:
            return {"findings": []}
        proposal = doctor.proposal
        return {
            "findings": [finding.record() for finding in doctor.findings(self.model)],
            "stopped_early": doctor.stopped_at,
            "proposal": None if proposal is None else {"finding": proposal.name, "override": proposal.advice[0]},
        }

    def _files(self, curves: bool) -> dict[str, str]:
        places = {
            "samples": "samples/latest.png",
            "checkpoint": "checkpoints/last.ckpt",
            "best_checkpoint": "checkpoints/best.ckpt",
            "generator": GENERATOR,
            "log": METRICS,
            "diagnosis": DIAGNOSIS,
            "configuration": "config.yaml",
        }
        files = {name: shown(self.folder / place) for name, place in places.items() if (self.folder / place).exists()}
        return files | ({"curves": shown(self.folder / "curves")} if curves else {})


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    return list(getattr(trainer, "callbacks", ()))


def _reset_peak_memory() -> None:
    """Forget the peak of what ran before: jobs of a sweep may share a process, and each has a peak of its own."""
    with contextlib.suppress(OSError):  # Linux alone has this
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if torch.cuda.is_initialized():  # else no GPU has been used, and asking for its memory would take some of the first
        torch.cuda.reset_peak_memory_stats()


def _peak_memory(device: torch.device) -> int:
    """Return the peak in bytes: of the GPU's memory for a training on one, else of the process; 0: it is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # Unix alone has this module
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _versions() -> dict[str, str]:
    """Return the versions of the interpreter, the system, and the libraries that results depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "system": platform.platform(), **packages}
