"""``medsynth train``: data, model, callbacks, loggers, trainer, fit, summary."""

from __future__ import annotations

import logging
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import medsynth
from medsynth.callbacks.generator_export import GeneratorExport
from medsynth.cli.resume import check_checkpoint, read_composition, save_configuration
from medsynth.cli.settle import settle
from medsynth.gan import GAN, TrainingDiverged
from medsynth.report.curves import draw_curves
from medsynth.report.summary import summary_text, write_summary

_log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Train as ``config`` says; returns the best value of the objective, which sweeps minimize."""
    _quiet_libraries()
    folder = Path(HydraConfig.get().runtime.output_dir)
    typed = list(HydraConfig.get().overrides.task)
    resumed = bool(config.resume)
    if resumed:
        config = read_composition(folder, typed)
    config.overrides = [*config.overrides, *typed]
    pl.seed_everything(config.seed, workers=True, verbose=False)

    data = instantiate(config.data, _convert_="all")
    data.prepare()
    settle(config, data)
    model = instantiate(config.task, _convert_="all")
    checkpoint = check_checkpoint(folder, model) if resumed else None
    save_configuration(config, folder)
    loggers = list(instantiate(config.logger, _convert_="all").values())
    callbacks = [*instantiate(config.callbacks, _convert_="all").values(), _export(config, folder)]
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(folder))

    _log.info("Training %s on %s; everything lands in %s", describe(config, model), data.description, _shown(folder))
    record = RunRecord(config, folder, trainer, model, data)
    failed = True
    try:
        for logger in loggers:
            logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
        trainer.fit(model, data, ckpt_path=checkpoint)
        failed = False
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{error} {_last_checkpoint(folder)}") from error
    finally:
        summary = record.finish(failed=failed)
        for logger in loggers:
            if hasattr(logger, "close"):
                logger.close(failed=failed)
    print("\n" + summary_text(summary), flush=True)
    return summary["best"]["value"]


def describe(config: DictConfig, model: GAN) -> str:
    """The composition in one phrase: what plays against what."""
    discriminator = type(model.discriminator).__name__
    backbone = getattr(model.discriminator, "backbone", None)
    if backbone is not None:
        state = "frozen" if model.discriminator.frozen else "fine-tuned"
        discriminator += f" on {state} {backbone.model_name} ({backbone.weights_description})"
    weights = sum(parameter.numel() for parameter in model.generator.parameters())
    generator = f"{type(model.generator).__name__} ({weights / 1e6:.2f} M weights)"
    return f"{generator} against {discriminator}, loss {type(model.loss).__name__}"


class RunRecord:
    """What is known of a run at its end, also of one that failed; written to summary.json and drawn as curves."""

    def __init__(self, config: DictConfig, folder: Path, trainer: pl.Trainer, model: GAN, data: pl.LightningDataModule):
        self.config, self.folder, self.trainer, self.model, self.data = config, folder, trainer, model, data
        self.trained = describe(config, model)
        self.started = time.perf_counter()
        self.images_before = model.images_seen

    def finish(self, *, failed: bool) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        curves = draw_curves(self.folder / "metrics.csv", self.folder / "curves")
        summary = {
            "medsynth": medsynth.__version__,
            "status": "failed" if failed else "completed",
            "trained": self.trained,
            "data": self.data.description,
            "images_seen": self.model.images_seen,
            "generator_updates": self.model.generator_updates,
            "discriminator_updates": self.model.discriminator_updates,
            "seconds": seconds,
            "images_per_second": (self.model.images_seen - self.images_before) / seconds,
            "precision": str(self.trainer.precision),
            "device": _device_name(self.model.device),
            "torch": torch.__version__,
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "metrics": {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")},
            "best": self._best(),
            "files": self._files(bool(curves)),
            "next": f"medsynth generate run={_shown(self.folder)} num_samples=64 out=generated",
        }
        write_summary(self.folder / "summary.json", summary)
        return summary

    def _best(self) -> dict[str, Any]:
        export = next(c for c in self.trainer.callbacks if isinstance(c, GeneratorExport))
        return {"objective": export.objective, "value": export.best, "images_seen": export.best_images_seen}

    def _files(self, curves: bool) -> dict[str, str | None]:
        places = {
            "samples": "samples/latest.png",
            "checkpoint": "checkpoints/last.ckpt",
            "best_checkpoint": "checkpoints/best.ckpt",
            "generator": "generator.safetensors",
            "log": "metrics.csv",
            "configuration": "config.yaml",
        }
        files = {name: _shown(self.folder / place) for name, place in places.items() if (self.folder / place).exists()}
        return files | ({"curves": _shown(self.folder / "curves")} if curves else {})


def _export(config: DictConfig, folder: Path) -> GeneratorExport:
    # Built here and not by Hydra, which would turn the generator's configuration into a generator.
    rebuild = OmegaConf.to_container(config.generator, resolve=True)
    return GeneratorExport(path=folder / "generator.safetensors", objective=config.objective, config=rebuild)


def _last_checkpoint(folder: Path) -> str:
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return "There is no checkpoint yet."
    return f"The last good checkpoint is {_shown(last)}; resume={_shown(folder)} goes on from it."


def _shown(path: Path) -> str:
    """Relative to where the user stands, if below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _quiet_libraries() -> None:
    """Lightning's notes about choices that this program makes on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*in eval mode at the start of training.*",
        ".*smaller than the logging interval.*",
        "Checkpoint directory .* exists and is not empty.*",
        "The dirpath has changed.*",
        r".*LeafSpec.*",
        r".*isinstance\(treespec, LeafSpec\).*",
    ):
        warnings.filterwarnings("ignore", message=message, module="pytorch_lightning.*")
