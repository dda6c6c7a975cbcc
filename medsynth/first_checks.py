"""Checks of a training before libraries are loaded: by itself, and as a job of a sweep or a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.combinations import check_combinations
from medsynth.configuration.device_options import check_device_options
from medsynth.configuration.ignored import refuse_ignored
from medsynth.errors import InputError

_OF_NETWORKS = ("discriminator", "metrics")  # the parts in which a training builds networks with weights


def check_training(config: DictConfig, typed: Sequence[str]) -> None:
    """Refuse a training's composed configuration of which no training can begin, whatever the data is.

    Args:
        config: composed, with the types of its options checked.
        typed: the options as typed.

    Raises:
        InputError: names the option and what to type instead.
    """
    check_combinations(config)
    refuse_ignored(config, typed)
    check_device_options(config.trainer)


class FirstChecks:
    """The checks of one training after another, as of a sweep or a search.

    Args:
        here: the trainings run on this machine, so that their devices, data and weights are looked for.
    """

    def __init__(self, *, here: bool = True):
        self._here = here
        self._weights: dict[frozenset[tuple[str, str]], InputError | None] = {}

    def __call__(self, config: DictConfig, typed: Sequence[str]) -> None:
        """Check a training; see ``check_training``.

        Raises:
            InputError: also where a device, data or weights are missing.
        """
        check_training(config, typed)
        if not self._here:
            return
        if config.trainer.accelerator not in ("auto", "cpu") or config.trainer.devices not in (1, "auto"):
            from medsynth.lightning.process_launch import check_processes  # PyTorch comes with it

            check_processes(config.trainer)
        require_data(config.data)
        self._require_weights(config)

    def _require_weights(self, config: DictConfig) -> None:
        """Check the same weights once for all trainings: asking a server for them takes seconds."""
        from medsynth.backbone.availability import chosen_weights  # 0.1 s that --help need not wait for

        networks = frozenset(chosen_weights(networks_of(config)))
        if networks not in self._weights:
            self._weights[networks] = None
            try:
                require_weights(config)
            except InputError as error:
                self._weights[networks] = error
        if error := self._weights[networks]:
            raise error


def require_data(data: DictConfig) -> None:
    """Refuse a missing data.root with the reader's own sentence; a reader that downloads is not asked.

    Raises:
        InputError: there is no such folder or file.
    """
    if not isinstance(data, DictConfig) or "root" not in data or OmegaConf.is_missing(data, "reader"):
        return
    root, reader = data.root, data.get("reader")
    exists = root is not None and Path(str(root)).expanduser().exists()
    if isinstance(reader, DictConfig) and not exists and not (root and reader.get("download")):
        instantiate(reader)(root)


def require_weights(config: DictConfig, parts: Sequence[str] = _OF_NETWORKS) -> None:
    """Refuse weights that are neither on this machine nor can be downloaded now.

    Args:
        config: composed.
        parts: of it, in which networks are looked for.

    Raises:
        InputError: says what can be had instead.
    """
    nodes = networks_of(config, parts)
    if nodes:
        from medsynth.backbone.availability import check_weights  # 0.1 s that --help need not wait for

        check_weights(*nodes)


def networks_of(config: DictConfig, parts: Sequence[str] = _OF_NETWORKS) -> list[Any]:
    """Return the parts of a configuration that hold networks, resolved and in plain types."""
    nodes = [config[part] for part in parts if isinstance(config.get(part), DictConfig)]
    return [OmegaConf.to_container(node, resolve=True) for node in nodes]
