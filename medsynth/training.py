# pyright: strict
"""One training, from the composed configuration to its result."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medsynth.backbone.availability import check_weights
from medsynth.configuration.combinations import discriminator_of
from medsynth.configuration.objectives import check_objectives
from medsynth.configuration.private_paths import without_paths
from medsynth.data.module import ImageDataModule
from medsynth.finalize import finalize
from medsynth.lightning.distributed import Unwrapped
from medsynth.lightning.generator_export import GeneratorExport
from medsynth.lightning.keep_configuration import KeepConfiguration
from medsynth.lightning.libraries import quiet_libraries
from medsynth.lightning.loggers import open_loggers
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.precision import precision_options
from medsynth.lightning.process_launch import check_processes, launch_processes
from medsynth.lightning.provenance import Provenance
from medsynth.lightning.resume_checkpoint import check_checkpoint
from medsynth.lightning.run_summary import summarized
from medsynth.report.final_report import write_final_report
from medsynth.runs.launcher_environment import rank, started_by_launcher
from medsynth.runs.layout import GENERATOR
from medsynth.runs.placement import shown
from medsynth.runs.resume import ANY
from medsynth.runs.run_folder import Launch, RunFolder, RunResult

_log = logging.getLogger(__name__)


def train(config: DictConfig, launch: Launch) -> RunResult:
    """Train as ``config`` says, in the folder of ``launch``; resume the run in it if that is asked for.

    Raises:
        InputError: an option cannot be used, the run was stopped, or it diverged.
    """
    with RunFolder.open(config, launch) as run:
        if not run.complete:
            check_objectives(run.config)
            processes = check_processes(run.config.trainer)
            if processes == 1 or started_by_launcher():
                fit(run)
            else:
                launch_processes(processes, run, setup=HydraConfig.instance().cfg)
    if not run.complete and rank() == 0:
        write_final_report(run.path, run.config.report, in_sweep=run.config.sweep.folder is not None)
    return run.result()


def fit(run: RunFolder) -> None:
    """Train in this process, alone or as one of several that share each batch."""
    quiet_libraries()
    check_weights(plain(discriminator_of(run.config)), plain(run.config.metrics))  # before data is prepared
    data = build_data(run.config)
    config = finalize(run.config, data)
    model = build_model(config)
    checkpoint = check_checkpoint(run.path, model, data, any_data=config.resume_data == ANY) if run.resumed else None
    trainer = build_trainer(config, run)
    _log.info("Training %s on %s; everything lands in %s", model.describe(), data.description, shown(run.path))
    with open_loggers(trainer.loggers, without_paths(plain(config))), summarized(run, trainer, model):
        trainer.fit(model, data, ckpt_path=checkpoint)


def build_data(config: DictConfig) -> ImageDataModule:
    """Build the data module and prepare its images."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data: ImageDataModule = instantiate(config.data, _convert_="all")
    data.prepare()
    return data


def build_model(config: DictConfig) -> GenerativeModule:
    """Build the networks and the step that trains them; the seed decides their first weights."""
    pl.seed_everything(config.seed, workers=True, verbose=False)  # independent of what the data's preparation has drawn
    return instantiate(config.task, _convert_="all")


def build_trainer(config: DictConfig, run: RunFolder) -> pl.Trainer:
    """Build Lightning's trainer with the callbacks and loggers of the run; save the configuration of a new run."""
    if not run.resumed:
        run.save(config)
    options: dict[str, Any] = {
        "callbacks": [
            *instantiate(config.callbacks, _convert_="all").values(),
            GeneratorExport(path=run.path / GENERATOR, objective=config.objective, config=plain(config.generator)),
            Provenance(without_paths(plain(config))),
            *([KeepConfiguration(lambda: run.save(config))] if run.resumed else []),
        ],
        "logger": list(instantiate(config.logger, _convert_="all").values()),
        "strategy": Unwrapped() if check_processes(config.trainer) > 1 else "auto",
        "default_root_dir": str(run.path),
        **precision_options(config.trainer, instantiate(config.trainer.plugins)),
    }
    return instantiate(config.trainer, **options)


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the configuration resolved, as plain values: Hydra would build what it names."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
