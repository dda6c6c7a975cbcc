"""Shortcuts of the test process around costly work of libraries that hundreds of commands repeat.

A tiny training takes a third of its time for compositions of the same configuration and another third for rendering
text in the pictures of its curves. Commands that tests start as processes of their own take no shortcut.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.sweeper import Sweeper
from matplotlib.figure import Figure
from numpy import ndarray
from omegaconf import DictConfig

from medsynth.configuration.compose import is_group
from medsynth.data.phantom.source import Phantoms


def take_shortcuts(patch: pytest.MonkeyPatch) -> None:
    """Keep compositions of conf/ for later, and draw curves without rendering them, until ``patch`` is undone."""
    # Hydra copies its sources, which do not change, before each composition and each look at a group's choices.
    patch.setattr(ConfigSource, "__deepcopy__", lambda self, memo: self, raising=False)
    patch.setattr(FileConfigSource, "load_config", kept_files(FileConfigSource.load_config))
    patch.setattr(hydra, "compose", kept_compositions(hydra.compose))
    patch.setattr(Sweeper, "validate_batch_is_legal", kept_batches(Sweeper.validate_batch_is_legal))
    patch.setattr(Hydra, "get_mode", kept_modes(Hydra.get_mode))
    patch.setattr("medsynth.report.curves.Figure", UnrenderedFigure)


def kept_files(load: Callable[..., ConfigResult]) -> Callable[..., ConfigResult]:
    """Return a source's ``load_config`` that parses a YAML file again only after it has changed."""
    kept: dict[Any, ConfigResult] = {}

    def loaded(self: FileConfigSource, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        if not path.is_file():
            return load(self, config_path)
        state = path.stat()
        key = (self.path, self.provider, config_path, state.st_mtime_ns, state.st_size)
        if key not in kept:
            kept[key] = load(self, config_path)
        return dataclasses.replace(kept[key], config=copy.deepcopy(kept[key].config))

    return loaded


def kept_phantoms(image: Callable[..., ndarray]) -> Callable[..., ndarray]:
    """Return ``Phantoms.image`` that paints each small image of the same options once."""
    kept: dict[Any, ndarray] = {}

    def painted(self: Phantoms, split: str, index: int) -> ndarray:
        if self.image_size > 16:
            return image(self, split, index)
        options = (type(self), self.anatomies, self.classes, self.image_size, self.windows, self.noise_hu, self.seed)
        key = (*options, split, index)
        if key not in kept:
            kept[key] = image(self, split, index)
        return kept[key].copy()

    return painted


def kept_compositions(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Return ``hydra.compose`` that returns copies where it is asked again and no folder of a user takes part."""
    kept: dict[Any, DictConfig] = {}

    def composed(config_name: str, overrides: Sequence[str] = (), return_hydra_config: bool = False) -> DictConfig:
        sources = _sources(GlobalHydra.instance().hydra)
        key = (config_name, tuple(overrides), return_hydra_config, sources)
        if len(sources) > 1 or any(override.startswith("hydra.searchpath") for override in overrides):
            return compose(config_name, list(overrides), return_hydra_config)
        if key not in kept:
            kept[key] = compose(config_name, list(overrides), return_hydra_config)
        return copy.deepcopy(kept[key])

    return composed


def kept_batches(validate: Callable[..., None]) -> Callable[..., None]:
    """Return a sweeper's ``validate_batch_is_legal``, which composes each job, for jobs that were not found legal yet.

    A sweep validates its jobs when it plans them and again when it starts them.
    """
    kept: set[Any] = set()

    def validated(self: Any, batch: Sequence[Sequence[str]]) -> None:
        if len(_sources(self.hydra_context)) > 1:
            return validate(self, batch)
        new = [job for job in batch if tuple(job) not in kept]
        validate(self, new)
        kept.update(map(tuple, new))

    return validated


def kept_modes(get_mode: Callable[..., Any]) -> Callable[..., Any]:
    """Return Hydra's ``get_mode``, which composes to learn hydra.mode, without overrides that cannot change it."""
    kept: dict[Any, Any] = {}

    def mode(self: Hydra, config_name: str, overrides: Sequence[str]) -> Any:
        choices = [override for override in overrides if _may_set_mode(override)]
        key = (config_name, tuple(choices), _sources(self))
        if key not in kept:
            kept[key] = get_mode(self, config_name, choices)
        return kept[key]

    return mode


def _may_set_mode(override: str) -> bool:
    """Tell whether an override chooses a file, adds or removes something, or sets an option of Hydra."""
    return is_group(override) or override.startswith(("+", "~", "hydra.mode", "hydra.searchpath"))


def _sources(program: Any) -> tuple[str, ...]:
    """Return the folders of choices that Hydra searches, those of a user too."""
    sources = program.config_loader.get_sources()
    return tuple(source.path for source in sources if source.scheme() == "file")


class UnrenderedFigure(Figure):
    """Figure that is saved as an empty picture: the time of drawing goes to measuring and rendering text."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the header of a PNG."""
        Path(fname).write_bytes(b"\x89PNG\r\n\x1a\n")
