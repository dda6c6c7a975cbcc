"""Weights & Biases: online where that is possible, else offline, and never in the way of a training."""

from __future__ import annotations

import logging
import netrc
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from medsynth.contracts import InputError

MODES = ("auto", "online", "offline", "disabled")
_log = logging.getLogger(__name__)


class Wandb(WandbLogger):
    """Lightning's WandbLogger with a run of its own per job, closed with the job's exit code."""

    def close(self, *, failed: bool) -> None:
        """Finish the W&B run; without it the next job of the same process would write into this one."""
        self.experiment.finish(exit_code=1 if failed else 0)


def build(*, folder: str, mode: str, project: str, name: str | None = None, group: str | None = None) -> Wandb:
    """A W&B logger that has started its run.

    Args:
        folder: where W&B keeps the run's files (``wandb/`` in it).
        mode: ``auto`` is the environment's WANDB_MODE, else online where a key is configured, else offline; ``online``
            without a key is an error, without a network the run is kept offline; ``offline``; ``disabled``.
        project: W&B project.
        name: display name; None: W&B's choice.
        group: W&B group.

    Raises:
        InputError: an unknown mode, or online without a key.
    """
    if mode not in MODES:
        raise InputError(f"logger.wandb.mode={mode} is unknown: choose {', '.join(MODES)}.")
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    elif mode == "online" and not _has_key():
        raise InputError(
            "logger.wandb.mode=online needs a W&B key: set WANDB_API_KEY, run `wandb login`, or choose offline."
        )
    import wandb  # here, since it takes a second

    Path(folder).mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"silent": True, "init_timeout": 30, "console": "off"}
    options = {"dir": folder, "project": project, "name": name, "group": group, "reinit": "create_new"}
    try:
        run = wandb.init(mode=mode, settings=wandb.Settings(**settings), **options)
    except (wandb.errors.CommError, wandb.errors.UsageError, TimeoutError) as error:
        _log.warning("W&B could not be reached (%s): this run is kept offline; `wandb sync` sends it later.", error)
        run = wandb.init(mode="offline", settings=wandb.Settings(**settings), **options)
    run.define_metric("*", step_metric="trainer/images_seen")
    return Wandb(experiment=run, save_dir=folder)


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
