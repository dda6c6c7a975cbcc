"""Composition of a command's configuration from conf/ and overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


def conf_folder() -> Path:
    """Return ``conf/`` of this installation: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def own_folders() -> list[str]:
    """Return the user's folders of choices, given by --config-dir and hydra.searchpath to the job that runs now."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [source.path for source in sources if source.schema == "file" and "command-line" in source.provider]


def is_group(override: str) -> bool:
    """Tell whether an override chooses a file of conf/ (``loss=hinge``) instead of setting a value."""
    return (conf_folder() / re.split("[@=]", override)[0]).is_dir()


def compose(command: str, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Compose the configuration of ``command``, with the user's folders of choices; ``with_hydra``: with Hydra's own.

    Hydra's global state is restored afterwards: this may run inside of a job.
    """
    folders = [f"file://{folder}" for folder in own_folders()]
    if folders and not any(override.startswith("hydra.searchpath=") for override in overrides):
        overrides = [*overrides, f"hydra.searchpath=[{','.join(folders)}]"]
    state, hydra_config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return hydra.compose(command, overrides=list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = state
        HydraConfig.instance().cfg = hydra_config
