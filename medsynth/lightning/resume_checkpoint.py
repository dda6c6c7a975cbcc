"""Choice of the checkpoint to resume from: the newest undamaged one, checked against the model and the data."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from medsynth.contracts import TrainingData
from medsynth.errors import EndCode, InputError
from medsynth.lightning.checkpoint_io import damage
from medsynth.lightning.last_checkpoint import RECORD
from medsynth.lightning.module import GenerativeModule
from medsynth.runs.layout import CHECKPOINT, older_ones
from medsynth.runs.provenance import fingerprint

_log = logging.getLogger(__name__)
_FIRST_WITH_FINGERPRINT = 2  # format of checkpoints whose data fingerprint can be compared


def check_checkpoint(
    folder: Path, model: GenerativeModule, data: TrainingData | None = None, *, any_data: bool = False
) -> Path:
    """Return the newest undamaged checkpoint of the run in ``folder`` after checking that ``model`` can resume from it.

    No file is changed. Where ``data`` is given it has to be the data that the run was trained on, unless ``any_data``.

    Raises:
        InputError: there is no checkpoint, all are damaged, it is of another architecture or of other data, or the run
            has seen more images than ``max_images``.
    """
    path = _newest_undamaged(folder)
    checkpoint = _read(path)
    model.on_load_checkpoint(checkpoint)
    record = checkpoint.get(RECORD, {})
    if data is not None:
        if checkpoint["medsynth"]["format"] < _FIRST_WITH_FINGERPRINT:
            _log.warning("%s is of an older version of medsynth: whether the data are the same is not checked.", path)
            record = {}
        _check_data(folder, data, record.get("data_fingerprint"), allowed=any_data)
    if model.images_seen > model.max_images:
        raise InputError(
            f"The run {folder} has already seen {model.images_seen} images, more than max_images={model.max_images}: "
            "give a larger number.",
            code=EndCode.ALREADY_COMPLETE,
        )
    return path


def _newest_undamaged(folder: Path) -> Path:
    candidates = older_ones(folder / CHECKPOINT)
    if not candidates:
        raise InputError(
            f"resume={folder} is not possible: the run was stopped before its first checkpoint. Train anew with the "
            "overrides in its config.yaml."
        )
    damaged: list[str] = []
    for path in candidates:
        found = damage(path)
        if found is None:
            if damaged:
                _log.warning("%s: the run is resumed from the one before, %s.", "; ".join(damaged), path)
            return path
        damaged.append(f"{path} is damaged ({found})")
    raise InputError(
        f"resume={folder} is not possible: {' and '.join(damaged)}, and there is no older checkpoint: "
        "train anew with the overrides in its config.yaml.",
        code=EndCode.CHECKPOINT_DAMAGED,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise InputError(
            f"{path} is no checkpoint of medsynth: {str(error).splitlines()[0]}", code=EndCode.CHECKPOINT_DAMAGED
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(
            f"{path} is no checkpoint of medsynth: it holds a {type(checkpoint).__name__}.",
            code=EndCode.CHECKPOINT_DAMAGED,
        )
    return checkpoint


def _check_data(folder: Path, data: TrainingData, before: str | None, *, allowed: bool) -> None:
    if before in (None, fingerprint(data)):
        return
    if not allowed:
        raise InputError(
            f"The run {folder} was trained on other data, or on data prepared in another way, than {data.description}: "
            "give the data that it had, or allow the change by resume_data=any."
        )
    _log.warning("The run is resumed with other data than before: its curves before and after are of different data.")
