"""A run's configuration in its folder, and going on with it."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.compose import conf_folder
from medsynth.configuration.trusted_targets import check_targets
from medsynth.errors import EndCode, InputError
from medsynth.files import replacing
from medsynth.gan import CHECKPOINT_FORMAT, GAN
from medsynth.lightning.checkpoint_io import damage
from medsynth.lightning.last_checkpoint import RECORD
from medsynth.runs.launcher_environment import rank
from medsynth.runs.layout import CHECKPOINT, COMPOSITION, CONFIGURATION, SUMMARY, older_ones, read_json
from medsynth.runs.provenance import fingerprint
from medsynth.runs.status import COMPLETED, RUNNING, state

_log = logging.getLogger(__name__)
_OF_NETWORKS = ("data.image_size", "data.channels", "conditional", "num_classes")
_SAME, _ANY = "same", "any"  # what resume_data may be


class Finished(InputError):
    """A run that has nothing left to do."""

    code = EndCode.ALREADY_COMPLETE


def save_configuration(config: DictConfig, folder: Path) -> None:
    """Write both forms of ``config`` into ``folder``, each complete or not at all."""
    for name, resolve in ((CONFIGURATION, True), (COMPOSITION, False)):
        with replacing(folder / name) as temporary:
            OmegaConf.save(config, temporary, resolve=resolve)


class KeepConfiguration(pl.Callback):
    """Writes a resumed run's configuration when its first step is done: until then the run is as it was before."""

    def __init__(self, config: DictConfig, folder: Path):
        self.config, self.folder = config, folder
        self._done = False

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if not self._done:
            save_configuration(self.config, self.folder)
            self._done = True


def read_composition(folder: Path, overrides: Sequence[str], *, trusted: bool = False) -> DictConfig:
    """The configuration of the run in ``folder``, with the values of ``overrides`` changed.

    Raises:
        InputError: an override that chooses a part or is kept by the checkpoint, or a run that is not over or has
            nothing left to do.
    """
    if rank() == 0:  # the others come when the first has written that it runs
        refuse_running(folder)
    config = OmegaConf.load(folder / COMPOSITION)
    check_targets(config, folder / COMPOSITION, trusted=trusted)
    OmegaConf.update(config, "resume_data", _SAME, force_add=True)  # what was allowed once is not allowed for good
    OmegaConf.set_struct(config, True)
    for override in overrides:
        key = override.partition("=")[0]
        if key in ("resume", "trust"):
            continue
        _refuse_override(override, key)
        before = OmegaConf.select(config, key)
        config.merge_with_dotlist([override])
        if key in _OF_NETWORKS and OmegaConf.select(config, key) != before:
            raise InputError(f"{override} cannot be combined with resume=: the networks are made for {key}={before}.")
        if key == "max_images":
            config.max_epochs = None  # which would be stronger
    if config.resume_data not in (_SAME, _ANY):
        raise InputError(f"resume_data={config.resume_data} is not known: choose {_SAME} or {_ANY}.")
    if not any(override.startswith("max_epochs=") for override in overrides):
        _refuse_finished(folder, config.max_images)
    return config


def check_checkpoint(
    folder: Path, model: GAN, data: pl.LightningDataModule | None = None, *, data_may: str = _SAME
) -> Path:
    """The newest whole checkpoint of the run in ``folder``, if ``model`` can go on with it; nothing is changed.

    Where ``data`` is given it has to be what the run was trained on, unless ``data_may`` be ``any``.

    Raises:
        InputError: there is none, all are damaged, it is of another architecture or of other data, or the run has
            seen more images than it was to see.
    """
    path = _newest_whole(folder)
    checkpoint = _read(path)
    model.on_load_checkpoint(checkpoint)
    record = checkpoint.get(RECORD, {})
    if data is not None:
        if checkpoint["medsynth"]["format"] < CHECKPOINT_FORMAT:
            _log.warning("%s is of an older version of medsynth: whether the data are the same is not checked.", path)
            record = {}
        _check_data(folder, data, record.get("data_fingerprint"), allowed=data_may == _ANY)
    if model.images_seen > model.max_images:
        raise InputError(
            f"The run {folder} has already seen {model.images_seen} images, more than max_images={model.max_images}: "
            "give a larger number."
        )
    return path


def _newest_whole(folder: Path) -> Path:
    there = older_ones(folder / CHECKPOINT)
    if not there:
        raise InputError(f"resume={folder} cannot go on: the run was stopped before its first checkpoint.")
    damaged: list[str] = []
    for path in there:
        found = damage(path)
        if found is None:
            if damaged:
                _log.warning("%s: the run goes on from the one before, %s.", "; ".join(damaged), path)
            return path
        damaged.append(f"{path} is damaged ({found})")
    raise InputError(
        f"resume={folder} cannot go on: {' and '.join(damaged)}, and there is no older checkpoint.",
        code=EndCode.CHECKPOINT_DAMAGED,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise InputError(f"{path} is no checkpoint of medsynth: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} is no checkpoint of medsynth: it holds a {type(checkpoint).__name__}.")
    return checkpoint


def _check_data(folder: Path, data: pl.LightningDataModule, before: str | None, *, allowed: bool) -> None:
    if before in (None, fingerprint(data)):
        return
    if not allowed:
        raise InputError(
            f"The run {folder} was trained on other data, or on data prepared in another way, than {data.description}: "
            "give the data that it had, or allow the change by resume_data=any."
        )
    _log.warning("The run goes on with other data than before: its curves before and after are of different data.")


def _refuse_override(override: str, key: str) -> None:
    if (conf_folder() / key.split("@")[0]).is_dir() or key.startswith(("+", "~")):
        raise InputError(f"{override} cannot be combined with resume=: a run goes on with its own parts.")
    if key.startswith(("generator_optimizer.", "discriminator_optimizer.")):
        raise InputError(
            f"{override} cannot be combined with resume=: the optimizers go on as the checkpoint has them."
        )


def _refuse_finished(folder: Path, max_images: int) -> None:
    summary = read_json(folder / SUMMARY)
    if summary.get("status") == COMPLETED and summary.get("images_seen", 0) >= max_images:
        raise Finished(
            f"The run {folder} has already seen its max_images={max_images}: give a larger number to extend it, "
            f"max_images={2 * max(max_images, summary['images_seen'])} for example."
        )


def refuse_running(folder: Path) -> None:
    """Raises InputError where the run in ``folder`` is at work in another process."""
    summary = read_json(folder / SUMMARY)
    process = summary.get("process") or {}
    # By the run's own word: a sweep that has just started this process says that the job is running, too.
    if summary.get("status") != RUNNING or process.get("pid") == os.getpid():
        return
    if state(folder).status != RUNNING or _is_another(process):
        return
    raise InputError(
        f"The run {folder} is still running, as process {process.get('pid')} on {process.get('host')}: "
        "wait for its end, or stop it first (kill -TERM, which lets it write a checkpoint)."
    )


def _is_another(process: dict[str, Any]) -> bool:
    """Whether the process of that number on this machine began after the run did: numbers are used again."""
    try:
        fields = Path(f"/proc/{process['pid']}/stat").read_text().rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, KeyError, IndexError, ValueError):
        return False
    began = time.time() - up + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return began > process.get("started", began) + 60
