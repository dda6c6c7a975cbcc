"""Composition of a command's configuration from conf/ and overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medsynth.configuration.override_text import quoted


def conf_folder() -> Path:
    """Return ``conf/`` of this installation: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def own_folders() -> list[str]:
    """Return the user's folders of choices, given by --config-dir and hydra.searchpath to the command that runs now."""
    if HydraConfig.initialized():
        found = [(source.provider, source.schema, source.path) for source in HydraConfig.get().runtime.config_sources]
    elif GlobalHydra.instance().is_initialized():  # --help: no job runs
        sources = GlobalHydra.instance().config_loader().get_sources()
        found = [(source.provider, source.scheme(), source.path) for source in sources]
    else:
        return []
    return [path for provider, scheme, path in found if scheme == "file" and "command-line" in provider]


def is_group(override: str) -> bool:
    """Tell whether an override chooses a file of conf/ (``loss=hinge``) instead of setting a value."""
    key, equals, _ = override.partition("=")
    group = key.partition("@")[0]
    return bool(group and equals) and not group.startswith("/") and (conf_folder() / group).is_dir()


def compose(command: str, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Compose the configuration of ``command``, with the user's folders of choices; ``with_hydra``: with Hydra's own.

    Hydra's global state is restored afterwards: this may run inside of a job.
    """
    folders = [quoted(f"file://{folder}") for folder in own_folders()]
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
