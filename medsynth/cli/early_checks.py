"""Refusal of missing options, folders and files by each command before it loads libraries, which takes many seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.least_values import check_least_values
from medsynth.data.tree import require_images
from medsynth.errors import EndCode, InputError
from medsynth.first_checks import check_training, require_data
from medsynth.report.runs import require_folder
from medsynth.runs.existing import named_folders, require_run


def check_early(command: str, config: DictConfig, *, resumed: bool) -> None:
    """Refuse what ``command`` cannot begin with.

    Args:
        command: its name.
        config: composed.
        resumed: the command resumes a run, which has data of its own.

    Raises:
        InputError: names the option and what to type.
    """
    if command in _CHECKS:
        _CHECKS[command](config)
    if command in ("train", "plan") and not resumed:
        check_training(config, HydraConfig.get().overrides.task)
    if command in ("pretrain", "data", "start"):
        check_least_values(config)
    if command in ("train", "plan", "pretrain", "data", "start") and not resumed:
        require_data(config.data)


def _check_translate(config: DictConfig) -> None:
    _check_generator(config)
    if config.out is None:
        raise InputError("out= is needed: the folder to write the translations to, for example out=translated.")
    _check_new(config.out)
    if OmegaConf.is_missing(config.data, "reader") or not config.data.get("root"):
        raise InputError("data.root= is needed: the folder of the series to translate, such as data.root=my/series.")
    require_images("data.root", config.data.root)


def _check_generate(config: DictConfig) -> None:
    _check_generator(config)
    if config.out is None:
        raise InputError("out= is needed: the folder to write the images to, for example out=generated.")
    _check_new(config.out)
    for name in ("num_samples", "batch_size"):
        if config[name] < 1:
            raise InputError(f"{name}={config[name]} must be 1 or more, such as {name}=64.")


def _check_generator(config: DictConfig) -> None:
    if config.run is None:
        raise InputError("run= is needed: the folder of a run, for example run=outputs/2026-01-31/12-00-00.")
    if not Path(config.run).exists():
        raise InputError(f"run={config.run} does not exist: give the folder of a run, or a generator.safetensors.")


def _check_export(config: DictConfig) -> None:
    _check_generator(config)
    if config.out is None:
        raise InputError("out= is needed: the folder to write to, for example out=released.")
    _check_new(config.out)


def _check_evaluate(config: DictConfig) -> None:
    if bool(config.run) == bool(config.real or config.fake) or bool(config.real) != bool(config.fake):
        raise InputError("Give run=, the folder of a run, or both real= and fake=, folders or zip archives of images.")
    typed = [override.partition("=")[0] for override in HydraConfig.get().overrides.task]
    of_folders = ("data", "image_size", "training")
    of_others = of_folders if config.run else ("split", "num_samples", "max_training", "checkpoint")
    for name in typed:
        if name.split(".")[0] in of_others:
            other = "real= and fake= (a run has its own data)" if config.run else "run="
            raise InputError(f"{name}= goes with {other}: leave it out.")
    if config.run:
        require_run(Path(config.run))
        return
    for name in ("real", "fake", "training"):
        if config[name] is not None:
            require_images(name, str(config[name]))


def _check_verdict(config: DictConfig) -> None:
    if config.run is None:
        raise InputError("run= is needed: the folder of a run, for example run=outputs/2026-01-31/12-00-00.")
    require_run(Path(config.run))


def _check_utility(config: DictConfig) -> None:
    folders = [config[name] for name in ("real", "test", "fake")]
    if bool(config.run) == any(folders) or (any(folders) and not all(folders)):
        raise InputError(
            "Give run=, the folder of a run or [a,b] of several, or real=, test= and fake=, folders or zip archives."
        )
    if config.run:
        for folder in named_folders(config.run):
            require_run(folder)
        return
    for name in ("real", "test", "fake"):
        require_images(name, str(config[name]))
    if config.out is None:
        raise InputError("out= is needed with folders: the file of the results, for example out=utility.json.")


def _check_audit(config: DictConfig) -> None:
    given = [name for name in ("real", "held_out", "fake") if config[name] is not None]
    if bool(config.run) == bool(given) or len(given) not in (0, 3):
        raise InputError(
            "Give run=, the folder of a run, or all of real=, held_out= and fake=, folders or zip archives of images."
        )
    typed = [override.partition("=")[0].split(".")[0] for override in HydraConfig.get().overrides.task]
    of_others = ("data", "image_size") if config.run else ("split", "num_samples", "max_training", "checkpoint")
    for name in typed:
        if name in of_others:
            other = "real=, held_out= and fake= (a run has its own data)" if config.run else "run="
            raise InputError(f"{name}= goes with {other}: leave it out.")
    if config.run:
        require_run(Path(config.run))
    for name in given:
        require_images(name, str(config[name]))


def _check_report(config: DictConfig) -> None:
    folders = [config.folders] if isinstance(config.folders, str) else list(config.folders or [])
    if not folders:
        raise InputError("No folder of a run or sweep is given: type medsynth report outputs/2026-01-31/12-00-00.")
    for folder in folders:
        require_folder(Path(str(folder)))


def _check_pretrain(config: DictConfig) -> None:
    if config.out is None:
        raise InputError("out= is required: the file to write the weights to, for example out=weights.safetensors.")
    path = Path(config.out)
    if path.suffix != ".safetensors":
        raise InputError(f"out={config.out} must end in .safetensors: type out={path.with_suffix('.safetensors')}.")
    if path.exists():
        raise InputError(f"out={config.out} exists already: name a new file, so that nothing is overwritten.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):  # checked before the training, not after it
        raise InputError(
            f"out={config.out} cannot be written, since {folder} is not a writable folder: name another one.",
            code=EndCode.CANNOT_WRITE,
        )


def _check_preview(config: DictConfig) -> None:
    if config.out is not None:
        _check_new(config.out)


def _check_new(out: str) -> None:
    if Path(out).exists():
        raise InputError(f"out={out} exists already: name a new folder, so that nothing is overwritten.")


_CHECKS: dict[str, Callable[[DictConfig], None]] = {
    "generate": _check_generate,
    "translate": _check_translate,
    "evaluate": _check_evaluate,
    "audit": _check_audit,
    "card": _check_generator,
    "export": _check_export,
    "utility": _check_utility,
    "verdict": _check_verdict,
    "report": _check_report,
    "pretrain": _check_pretrain,
    "data": _check_preview,
}
