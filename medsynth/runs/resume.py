"""Saving a run's configuration in its folder, and reading it again to resume the run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.compose import conf_folder
from medsynth.configuration.moved import load_configuration
from medsynth.configuration.null_components import remove_null_components
from medsynth.configuration.plain_values import text_value
from medsynth.configuration.trusted_paths import check_configuration
from medsynth.errors import EndCode, InputError
from medsynth.files import replacing
from medsynth.runs.launcher_environment import rank
from medsynth.runs.layout import COMPOSITION, CONFIGURATION, SUMMARY
from medsynth.runs.records import read_json
from medsynth.runs.status import COMPLETED, RUNNING, state

SAME, ANY = "same", "any"  # values of resume_data
_SIZES_OF_NETWORKS = ("data.image_size", "data.channels", "conditional", "num_classes")


class Finished(InputError):
    """A run that has nothing left to do."""

    code = EndCode.ALREADY_COMPLETE


def save_configuration(config: DictConfig, folder: Path) -> None:
    """Write ``config`` into ``folder``, resolved and with its interpolations, each complete or not at all."""
    for name, resolve in ((CONFIGURATION, True), (COMPOSITION, False)):
        with replacing(folder / name) as temporary:
            OmegaConf.save(config, temporary, resolve=resolve)


def read_composition(
    folder: Path, overrides: Sequence[str], *, trusted: bool = False, present: DictConfig | None = None
) -> DictConfig:
    """Read the configuration of the run in ``folder`` and change the values of ``overrides``.

    Args:
        folder: of the run.
        overrides: options typed with ``resume=``, as ``key=value``.
        trusted: the user vouches for the folder, which may then name classes outside of medsynth and places outside
            of itself.
        present: what is composed now from all that the user typed; places that it names are the user's own.

    Raises:
        InputError: an override chooses a component or is kept by the checkpoint; the run has not ended, or has nothing
            left to do; its configuration is damaged, or could run code or write elsewhere.
    """
    if rank() == 0:  # the other processes arrive when the first has written that the run is running
        refuse_running(folder)
    config = load_configuration(folder / COMPOSITION)
    check_configuration(config, folder / COMPOSITION, trusted=trusted, present=present)
    OmegaConf.update(config, "resume_data", SAME, force_add=True)  # a change of the data is allowed for one start only
    config.run_dir = str(folder)  # the folder may have been renamed since
    OmegaConf.set_struct(config, True)
    for override in overrides:
        key = override.partition("=")[0]
        if key in ("resume", "trust"):
            continue
        _refuse_override(override, key)
        before = OmegaConf.select(config, key)
        text = text_value(override)
        if text is None:
            config.merge_with_dotlist([override])
        else:
            OmegaConf.update(config, key, text)
        if key in _SIZES_OF_NETWORKS and OmegaConf.select(config, key) != before:
            raise InputError(f"{override} cannot be combined with resume=: the networks are built for {key}={before}.")
        if key == "max_images":
            config.max_epochs = None  # would take precedence
    remove_null_components(config)
    if config.resume_data not in (SAME, ANY):
        raise InputError(f"resume_data={config.resume_data} is unknown: choose {SAME} or {ANY}.")
    if not any(override.startswith("max_epochs=") for override in overrides):
        _refuse_finished(folder, config.max_images)
    return config


def refuse_running(folder: Path) -> None:
    """Raise InputError where another process is training the run in ``folder``."""
    summary = read_json(folder / SUMMARY)
    process = summary.get("process") or {}
    # The run's own record decides: a sweep that has just started this process records that the job is running, too.
    if summary.get("status") != RUNNING or process.get("pid") == os.getpid():
        return
    if state(folder).status != RUNNING or _is_another(process):
        return
    raise InputError(
        f"The run {folder} is still running, as process {process.get('pid')} on {process.get('host')}: "
        "wait for its end, or stop it first (kill -TERM, which lets it write a checkpoint)."
    )


def _refuse_override(override: str, key: str) -> None:
    if (conf_folder() / key.split("@")[0]).is_dir() or key.startswith(("+", "~")):
        raise InputError(f"{override} cannot be combined with resume=: a run is resumed with its own components.")
    if key.startswith(("generator_optimizer.", "discriminator_optimizer.")):
        raise InputError(
            f"{override} cannot be combined with resume=: the optimizers continue as the checkpoint has them."
        )


def _refuse_finished(folder: Path, max_images: int) -> None:
    summary = read_json(folder / SUMMARY)
    if summary.get("status") == COMPLETED and summary.get("images_seen", 0) >= max_images:
        raise Finished(
            f"The run {folder} has already seen its max_images={max_images}: give a larger number to extend it, "
            f"max_images={2 * max(max_images, summary['images_seen'])} for example."
        )


def _is_another(process: dict[str, Any]) -> bool:
    """Tell whether the process of that number on this machine began after the run did: numbers are used again."""
    try:
        fields = Path(f"/proc/{process['pid']}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    except (OSError, KeyError, IndexError, ValueError):
        return False
    began = time.time() - up + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return began > process.get("started", began) + 60
