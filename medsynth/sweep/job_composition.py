"""Composition of all jobs of a sweep: each combination of choices is composed once, and values are set in a copy."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medsynth.configuration.kept_files import keep_files


class JobComposer:
    """Composes the jobs of a sweep as Hydra does, in a fraction of the time.

    Hydra composes each job from its files anew: 0.3 s on one core, in which most jobs differ by values alone. What it
    composes later, when it starts the jobs, takes the files that are kept here too.

    Args:
        loader: Hydra's loader of configurations.
        config: of the sweep, as Hydra hands it to callbacks.
    """

    def __init__(self, loader: Any, config: DictConfig):
        keep_files(loader)
        self._loader = loader
        self._load: Callable[[tuple[str, ...]], DictConfig] = functools.cache(
            lambda choices: loader.load_sweep_config(config, list(choices))
        )
        self._read: Callable[[str], Override] = functools.cache(OverridesParser.create(loader).parse_override)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration of a job; its node ``hydra`` may be that of another job of the same choices.

        Raises:
            HydraException: the overrides do not compose; also errors of OmegaConf.
        """
        values = [override for override in map(self._read, overrides) if self._is_value(override)]
        choices = tuple(text for text in overrides if not self._is_value(self._read(text)))
        composed = copy.deepcopy(self._load(choices))
        try:
            for value in values:
                OmegaConf.update(composed, value.key_or_group, value.value(), merge=True)
        except OmegaConfBaseException:
            return self._load(tuple(overrides))  # Hydra's own error names the option
        return composed

    def _is_value(self, override: Override) -> bool:
        """Tell whether an override changes a value, and neither chooses a file nor adds or removes anything."""
        return (
            override.type is OverrideType.CHANGE
            and override.package is None
            and not override.key_or_group.startswith("hydra.")
            and not self._loader.repository.group_exists(override.key_or_group)
        )
