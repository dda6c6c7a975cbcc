"""``medsynth train``: data, model, callbacks, loggers, trainer, fit, summary."""

from __future__ import annotations

import contextlib
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from medsynth.callbacks.generator_export import GeneratorExport
from medsynth.callbacks.provenance import Provenance, describe
from medsynth.cli.outcome import Outcome, last_checkpoint, shown
from medsynth.cli.resume import check_checkpoint, read_composition, save_configuration
from medsynth.cli.settle import settle
from medsynth.contracts import InputError
from medsynth.gan import TrainingDiverged
from medsynth.report.summary import summary_text

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
    own = [_export(config, folder), Provenance(OmegaConf.to_container(config, resolve=True))]
    callbacks = [*instantiate(config.callbacks, _convert_="all").values(), *own]
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(folder))

    _log.info("Training %s on %s; everything lands in %s", describe(model), data.description, shown(folder))
    outcome = Outcome(folder, trainer, model, data)
    with _closing(loggers):
        for logger in loggers:
            logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
        failed = True
        try:
            trainer.fit(model, data, ckpt_path=checkpoint)
            failed = False
        except TrainingDiverged as error:
            raise TrainingDiverged(f"{error} {last_checkpoint(folder)}") from error
        except (KeyboardInterrupt, SystemExit) as stop:  # Lightning makes the one of the other
            raise InputError(f"Stopped after {model.images_seen:,} images. {last_checkpoint(folder)}") from stop
        finally:
            summary = outcome.finish(failed=failed)
    shutil.rmtree(folder / "feature_bank", ignore_errors=True)  # of no use any more; after a failure resume= reads it
    print("\n" + summary_text(summary), flush=True)
    return summary["best"]["value"]


@contextlib.contextmanager
def _closing(loggers: list[Logger]) -> Iterator[None]:
    """Whatever happens, no logger's run stays open: the next job of a sweep would write into it."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in loggers:
            if hasattr(logger, "close"):
                logger.close(failed=failed)


def _export(config: DictConfig, folder: Path) -> GeneratorExport:
    # Built here and not by Hydra, which would turn the generator's configuration into a generator.
    rebuild = OmegaConf.to_container(config.generator, resolve=True)
    return GeneratorExport(path=folder / "generator.safetensors", objective=config.objective, config=rebuild)


def _quiet_libraries() -> None:
    """The libraries' notes about choices that this program makes on purpose."""
    for library in ("pytorch_lightning", "timm"):
        logging.getLogger(library).setLevel(logging.WARNING)
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
