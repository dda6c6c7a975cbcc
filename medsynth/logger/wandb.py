"""Weights & Biases logger: online if possible, else offline.

It sends the configuration without the paths of the data, values, pictures and the exported generator; the machine's
name, system, processors, memory, load and Python packages; the path of the current folder, and commit and remote of a
git checkout around it. It sends no code, no patch of uncommitted changes, no console output, no arguments and no
environment variables.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsynth.logger.guarded_logger import GuardedLogger
from medsynth.logger.run_ids import group_of, is_resumed, load_id, save_id
from medsynth.logger.wandb_mode import resolved_mode
from medsynth.logger.wandb_service import end_service, kill_service
from medsynth.runs.placement import shown
from medsynth.runs.status import COMPLETED

IMAGES_SEEN = "trainer/images_seen"  # the x-axis of everything
MAX_NAME_LENGTH = 128  # characters that W&B accepts
MARGIN = 10.0  # seconds beyond the patience, so that W&B itself times out first: it leaves complete files
_log = logging.getLogger(__name__)


class Wandb:
    """One W&B run, whose steps are real images seen.

    Values that a resumed run repeats after its checkpoint are not sent again.

    Args:
        run: the run that ``wandb.init`` returned.
    """

    def __init__(self, run: Any):
        self.run = run
        self.findings: list[list[Any]] = []
        run.define_metric("*", step_metric=IMAGES_SEEN)

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        """Add ``parameters`` to the description of the run."""
        self.run.config.update(dict(parameters), allow_val_change=True)

    def log_metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Log ``values`` at ``step`` real images seen."""
        if step >= self.run.step:
            self.run.log({**values, IMAGES_SEEN: step}, step=step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Log image files by title, as ``key/title``."""
        from wandb import Image

        self.log_metrics({f"{key}/{title}": Image(str(path)) for title, path in pictures.items()}, step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """Log the exported generator with its model card."""
        from wandb import Artifact

        artifact = Artifact(f"generator-{self.run.id}", type="model", metadata=dict(card))
        artifact.add_file(str(path), policy="immutable", skip_cache=True)  # otherwise it is copied to the user's home
        self.run.log_artifact(artifact, aliases=["best", "latest"])

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Log values of the run as a whole."""
        self.run.summary.update(dict(values))

    def log_finding(self, finding: Mapping[str, Any], text: str) -> None:
        """Alert the owner of the run, and add the finding to the run's table and its description."""
        from wandb import Table

        self.findings.append([finding["name"], text, finding["onset"], finding["confidence"]])
        self.run.alert(title=str(finding["name"]), text=text, level="WARN", wait_duration=0)
        self.run.summary["findings"] = [row[0] for row in self.findings]
        table = Table(columns=["finding", "description", "onset", "confidence"], data=list(self.findings))
        self.log_metrics({"diagnosis": table}, int(finding["last"]))

    def close(self, status: str) -> None:
        """End the run with ``status``."""
        try:
            self.run.summary["status"] = status
            self.run.finish(exit_code=0 if status == COMPLETED else 1)
        except Exception:
            end_service(failed=True)  # it is lost: the next run starts a new one, and nothing is printed at exit
            raise
        end_service()  # here, where the wait is limited by the patience


def build(
    *,
    folder: str,
    mode: str,
    project: str,
    name: str | None = None,
    group: str | None = None,
    patience: float = 120,
    overrides: Sequence[str] = (),
) -> GuardedLogger:
    """Start a W&B run, or continue that of a resumed run, and return its logger.

    In a run started by a W&B agent, W&B's own environment sets run, group and project.

    Args:
        folder: folder in which W&B keeps the run's files, below ``wandb/``.
        mode: ``auto``: the environment's WANDB_MODE, else online if an API key is configured, else offline;
            ``online``: an error without a key, and offline without a network; ``offline``; ``disabled``.
        project: W&B project.
        name: display name; None: W&B's choice.
        group: W&B group, or the folder of a sweep, whose runs get IDs of their own, whatever the environment says.
        patience: seconds that the start (30 at most) and the end of a run wait for a server that does not answer. W&B's
            own process is killed if it does not answer for ``MARGIN`` seconds longer.
        overrides: options on the command line; with ``resume=`` among them the W&B run of ``folder`` is continued.

    Raises:
        InputError: the mode is unknown, or ``online`` without an API key.
    """
    mode = resolved_mode(mode)
    title = None if name is None else str(name)[:MAX_NAME_LENGTH]
    options: dict[str, Any] = {"project": project, "name": title, "group": group_of(group)}
    known = load_id(Path(folder), "wandb") if is_resumed(overrides) else {}
    if os.environ.get("WANDB_SWEEP_ID"):
        options = {}
    elif known:
        options |= {"project": known.get("project", project), "id": known["id"]}
    elif group is not None:
        options["id"] = secrets.token_hex(6)
    return _guarded(Path(folder), mode, patience, options)


def reopen(folder: Path, *, patience: float = 120) -> GuardedLogger | None:
    """Return a logger that adds to the W&B run of the finished run in ``folder``; None if it has none."""
    known = load_id(folder, "wandb")
    if not known:
        return None
    mode = "offline" if known.get("mode") == "offline" else resolved_mode("auto")
    options = {"project": known.get("project"), "id": known["id"]}
    return _guarded(folder, mode, patience, options)


def _guarded(folder: Path, mode: str, patience: float, options: dict[str, Any]) -> GuardedLogger:
    def open_sink() -> Wandb:
        try:
            return _open(folder, mode, patience, options)
        except Exception:
            end_service(failed=True)  # so that nothing of it delays the exit
            raise

    return GuardedLogger("W&B", open_sink, patience=patience + MARGIN, abandon=kill_service)


def _open(folder: Path, mode: str, patience: float, options: dict[str, Any]) -> Wandb:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # reports of W&B's own faults to its developers
    os.environ.setdefault("WANDB_SILENT", "true")  # GuardedLogger warns of failures
    import wandb  # here, since it takes a second
    from wandb.errors import CommError, UsageError

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
    options = {
        "mode": mode,
        "dir": str(folder),
        "resume": "allow",
        "reinit": "create_new",
        "settings": settings,
        **options,
    }
    try:
        run = _init(wandb, options)
    except (CommError, UsageError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("W&B could not be reached (%s): this run is kept offline; `wandb sync` sends it later.", reason)
        options["mode"] = mode = "offline"
        run = _init(wandb, options)
    if mode != "disabled":
        url = getattr(run, "url", None) if mode != "offline" else None
        known = {"url": url} if isinstance(url, str) else {}
        save_id(folder, "wandb", id=run.id, project=run.project, mode=mode, **known)
    return Wandb(run)


def place_of(folder: Path) -> str | None:
    """Return where W&B has the run of ``folder``: its address, or the command that sends it; None: nowhere."""
    known = load_id(folder, "wandb")
    if known.get("url"):
        return known["url"]
    if known.get("mode") != "offline":
        return None
    return f"wandb sync {shlex.quote(shown(folder))}/wandb/offline-run-*"  # resumed runs and evaluations have their own


def _init(wandb: Any, options: Mapping[str, Any]) -> Any:
    """Start a W&B run without the arguments of this process: the configuration has them, without private paths."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        return wandb.init(**options)
    finally:
        sys.argv = arguments
