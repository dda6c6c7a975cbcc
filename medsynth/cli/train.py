"""``medsynth train``: data, model, callbacks, loggers, trainer, fit, summary."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from medsynth.configuration.finalize import settle
from medsynth.configuration.objectives import check_objectives
from medsynth.configuration.secrets import check_secrets
from medsynth.gan import GAN, TrainingDiverged
from medsynth.lightning.distributed import Unwrapped, leave_processes
from medsynth.lightning.generator_export import GeneratorExport
from medsynth.lightning.precision import precision_options
from medsynth.lightning.process_launch import check_processes, train_in_processes
from medsynth.lightning.provenance import Provenance
from medsynth.report.summary import summary_text
from medsynth.runs.launcher_environment import rank, requeue, say_nothing, started_by_launcher
from medsynth.runs.layout import SUMMARY, read_json
from medsynth.runs.outcome import Outcome, Stopped, last_checkpoint, recorded, report, status_of
from medsynth.runs.provenance import describe
from medsynth.runs.resume import (
    Finished,
    KeepConfiguration,
    check_checkpoint,
    read_composition,
    refuse_running,
    save_configuration,
)
from medsynth.runs.run_folder import AUTO, changed, goes_on, shown
from medsynth.runs.status import COMPLETED

_log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Train as ``config`` says; returns the best value of the objective, which sweeps minimize."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    typed = [item for item in HydraConfig.get().overrides.task if not item.startswith("sweep.")]  # filled in by a sweep
    if rank() > 0:
        say_nothing()
    named = any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)
    resumed = goes_on(config.resume, folder, named=named, in_sweep=config.sweep.folder is not None)
    by_itself = config.resume in (None, AUTO)
    if resumed:
        try:
            config = read_composition(folder, changed(folder, typed) if by_itself else typed, trusted=config.trust)
        except Finished:
            if by_itself:
                return _already(folder)
            raise
        check_secrets(config)
    elif config.sweep.folder is None and rank() == 0:
        refuse_running(folder)
    if by_itself:  # the loggers look there whether a run goes on
        typed = [item for item in typed if not item.startswith("resume=")] + ([f"resume={folder}"] if resumed else [])
    config.overrides = [*config.overrides, *typed]
    try:
        with recorded(folder) if rank() == 0 else contextlib.nullcontext():
            summary = _trained(config, folder, resumed=resumed)
    except (Stopped, TrainingDiverged) as end:
        if rank() > 0:
            sys.exit(0)  # all end alike, and the first one says why: a failure would have the launcher end it before
        if getattr(end, "requeue", False):  # now that all is written
            requeue()
        raise
    if rank() > 0:
        return math.nan
    if config.report is True or (config.report == "auto" and config.sweep.folder is None):
        report(folder)
    print("\n" + summary_text(summary), flush=True)
    return summary["best"]["value"]


def _trained(config: DictConfig, folder: Path, *, resumed: bool) -> dict[str, Any]:
    check_objectives(config)
    count = check_processes(config)
    if count == 1 or started_by_launcher():
        return in_this_process(config, folder, resumed=resumed)
    train_in_processes(count, config, folder, resumed=resumed)
    return read_json(folder / SUMMARY)


def _already(folder: Path) -> float:
    summary = read_json(folder / SUMMARY)
    if rank() == 0:
        print(f"The run {shown(folder)} is complete.\n\n{summary_text(summary)}", flush=True)
    return summary["best"]["value"]


def in_this_process(config: DictConfig, folder: Path, *, resumed: bool) -> dict[str, Any]:
    """Train, alone or as one of the processes of a training; returns the summary, empty but in the first of them."""
    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)

    data = instantiate(config.data, _convert_="all")
    data.prepare()
    settle(config, data)
    pl.seed_everything(config.seed, workers=True, verbose=False)  # whatever the preparation of data has drawn
    model = instantiate(config.task, _convert_="all")
    checkpoint = check_checkpoint(folder, model, data, data_may=config.resume_data) if resumed else None
    if rank() == 0 and not resumed:
        save_configuration(config, folder)
    loggers = list(instantiate(config.logger, _convert_="all").values())
    own = [_export(config, folder), Provenance(OmegaConf.to_container(config, resolve=True))]
    own += [KeepConfiguration(config, folder)] if resumed and rank() == 0 else []
    callbacks = [*instantiate(config.callbacks, _convert_="all").values(), *own]
    strategy = Unwrapped() if check_processes(config) > 1 else "auto"
    options = {"callbacks": callbacks, "logger": loggers, "strategy": strategy, "default_root_dir": str(folder)}
    options |= precision_options(config, instantiate(config.trainer.plugins))
    trainer = instantiate(config.trainer, **options)

    _log.info("Training %s on %s; everything lands in %s", describe(model), data.description, shown(folder))
    outcome = Outcome(folder, trainer, model, data)
    with _closing(loggers):
        for logger in loggers:
            logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
        try:
            with _explained(folder, model):
                trainer.fit(model, data, ckpt_path=checkpoint)
        except BaseException as error:
            if rank() == 0 and not (resumed and outcome.images == 0):  # a resume that came to nothing changes nothing
                outcome.finish(status_of(error))
            raise
        summary = outcome.finish(COMPLETED) if rank() == 0 else {}
    if rank() == 0:  # no longer needed; after a failure resume= reads it
        shutil.rmtree(folder / "feature_cache", ignore_errors=True)
    leave_processes()
    return summary


@contextlib.contextmanager
def _explained(folder: Path, model: GAN) -> Iterator[None]:
    """How a fit ended, with what is left of it."""
    try:
        yield
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{error} {last_checkpoint(folder)}") from error
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning makes the one of the other
        sentence = f"Stopped after {model.images_seen:,} images. {last_checkpoint(folder)}"
        raise Stopped(sentence, requeue=getattr(stop, "requeue", False)) from stop


@contextlib.contextmanager
def _closing(loggers: list[Logger]) -> Iterator[None]:
    """Whatever happens, no logger's run stays open: the next job of a sweep would write into it."""
    status = COMPLETED
    try:
        yield
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        for logger in loggers:
            if hasattr(logger, "close"):
                logger.close(failed=status != COMPLETED, status=status)


def _export(config: DictConfig, folder: Path) -> GeneratorExport:
    # Built here and not by Hydra, which would turn the generator's configuration into a generator.
    rebuild = OmegaConf.to_container(config.generator, resolve=True)
    return GeneratorExport(path=folder / "generator.safetensors", objective=config.objective, config=rebuild)


def quiet_libraries() -> None:
    """The libraries' notes about choices that this program makes on purpose."""
    for library in ("pytorch_lightning", "lightning_fabric", "timm"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*in eval mode at the start of training.*",
        ".*smaller than the logging interval.*",
        ".*recommended to use `.*sync_dist=True.*",
        "Checkpoint directory .* exists and is not empty.*",
        "The dirpath has changed.*",
        r".*LeafSpec.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message, module="(pytorch_lightning|lightning_fabric).*")
