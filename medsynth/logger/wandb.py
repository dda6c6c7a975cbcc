"""Weights & Biases: online where that is possible, else offline, and never in the way of a training.

What is sent: configuration, arguments, values, pictures, the exported generator; of the machine its name, system,
processors, memory, load and Python packages; of a git checkout around the current folder commit and remote. No code, no
patch of uncommitted changes, no console output, no environment variables.
"""

from __future__ import annotations

import logging
import netrc
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsynth.errors import InputError
from medsynth.logger.guarded import Guarded
from medsynth.logger.identity import group_of, is_resumed, recall, remember
from medsynth.logger.wandb_service import end_service, kill_service
from medsynth.runs.status import COMPLETED

MODES = ("auto", "online", "offline", "disabled")
IMAGES_SEEN = "trainer/images_seen"  # the x-axis of everything
LONGEST_NAME = 128  # W&B takes no more characters
MARGIN = 10.0  # seconds beyond the patience, so that W&B itself gives up on a server first: it leaves the files whole
_log = logging.getLogger(__name__)


class Wandb:
    """One W&B run. Its steps are images seen; what a resumed run does again after its checkpoint is there already."""

    def __init__(self, run: Any):
        self.run = run
        run.define_metric("*", step_metric=IMAGES_SEEN)

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        self.run.config.update(dict(parameters), allow_val_change=True)

    def log_metrics(self, values: Mapping[str, Any], step: int) -> None:
        if step >= self.run.step:
            self.run.log({**values, IMAGES_SEEN: step}, step=step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        from wandb import Image

        self.log_metrics({f"{key}/{title}": Image(str(path)) for title, path in pictures.items()}, step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        from wandb import Artifact

        artifact = Artifact(f"generator-{self.run.id}", type="model", metadata=dict(card))
        artifact.add_file(str(path), policy="immutable", skip_cache=True)  # else it is copied to the user's home
        self.run.log_artifact(artifact, aliases=["best", "latest"])

    def log_summary(self, values: Mapping[str, float]) -> None:
        self.run.summary.update(dict(values))

    def close(self, status: str) -> None:
        try:
            self.run.summary["status"] = status
            self.run.finish(exit_code=0 if status == COMPLETED else 1)
        except Exception:
            end_service(failed=True)  # it is gone: the next run gets a new one, and nothing is printed at exit
            raise
        end_service()  # here, where it is waited for with patience


def build(
    *,
    folder: str,
    mode: str,
    project: str,
    name: str | None = None,
    group: str | None = None,
    patience: float = 120,
    overrides: Sequence[str] = (),
) -> Guarded:
    """A W&B logger that has started its run, or goes on with that of a resumed run.

    In a run started by a W&B agent, W&B's own environment says run, group and project.

    Args:
        folder: where W&B keeps the run's files (``wandb/`` in it).
        mode: ``auto`` is the environment's WANDB_MODE, else online where a key is configured, else offline; ``online``
            without a key is an error, without a network the run is kept offline; ``offline``; ``disabled``.
        project: W&B project.
        name: display name; None: W&B's choice.
        group: W&B group, or the folder of a sweep; its runs have ids of their own, whatever the environment says.
        patience: seconds that the start (30 at most) and the end of a run wait for a server that does not answer. W&B's
            own process is given up, and killed, where it does not answer for ``MARGIN`` longer.
        overrides: what was typed; with ``resume=`` among it the run of ``folder`` goes on.

    Raises:
        InputError: an unknown mode, or online without a key.
    """
    mode = _settled(mode)
    title = None if name is None else str(name)[:LONGEST_NAME]
    options: dict[str, Any] = {"project": project, "name": title, "group": group_of(group)}
    known = recall(Path(folder), "wandb") if is_resumed(overrides) else {}
    if os.environ.get("WANDB_SWEEP_ID"):
        options = {}
    elif known:
        options |= {"project": known["project"], "id": known["id"]}
    elif group is not None:
        options["id"] = secrets.token_hex(6)
    return _guarded(Path(folder), mode, patience, options)


def reopen(folder: Path, *, patience: float = 120) -> Guarded | None:
    """The W&B run of the finished run in ``folder``, to add to; None: it has none."""
    known = recall(folder, "wandb")
    if not known:
        return None
    mode = "offline" if known["mode"] == "offline" else _settled("auto")
    options = {"project": known["project"], "id": known["id"]}
    return _guarded(folder, mode, patience, options)


def _guarded(folder: Path, mode: str, patience: float, options: dict[str, Any]) -> Guarded:
    def start() -> Wandb:
        try:
            return _open(folder, mode, patience, options)
        except Exception:
            end_service(failed=True)  # as when a run does not end: nothing of it is left for the exit
            raise

    return Guarded("W&B", start, patience=patience + MARGIN, abandon=kill_service)


def _open(folder: Path, mode: str, patience: float, options: dict[str, Any]) -> Wandb:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of W&B's own faults, to its makers
    os.environ.setdefault("WANDB_SILENT", "true")  # what goes wrong is said by Guarded
    import wandb  # here, since it takes a second

    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=min(30, patience),
        finish_timeout=patience,
        disable_code=True,
        save_code=False,
        disable_job_creation=True,
    )
    options = {"dir": str(folder), "resume": "allow", "reinit": "create_new", "settings": settings, **options}
    try:
        run = wandb.init(mode=mode, **options)
    except (wandb.errors.CommError, wandb.errors.UsageError, TimeoutError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("W&B could not be reached (%s): this run is kept offline; `wandb sync` sends it later.", said)
        mode = "offline"
        run = wandb.init(mode=mode, **options)
    if mode != "disabled":
        remember(folder, "wandb", id=run.id, project=run.project, mode=mode)
    return Wandb(run)


def _settled(mode: str) -> str:
    if mode not in MODES:
        raise InputError(f"logger.wandb.mode={mode} is unknown: choose {', '.join(MODES)}.")
    if mode == "auto":
        return os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "online" and not _has_key():
        raise InputError(
            "logger.wandb.mode=online needs a W&B key: set WANDB_API_KEY, run `wandb login`, or choose offline."
        )
    return mode


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
