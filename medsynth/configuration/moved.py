"""Classes and options that earlier versions named otherwise, so that the runs they left can still be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

TARGETS = {  # old ``_target_`` -> new one
    "medsynth.callbacks.checkpoint.AtomicCheckpointIO": "medsynth.lightning.checkpoint_io.AtomicCheckpointIO",
    "medsynth.callbacks.last_checkpoint.LastCheckpoint": "medsynth.lightning.last_checkpoint.LastCheckpoint",
    "medsynth.callbacks.progress.Progress": "medsynth.lightning.progress.Progress",
    "medsynth.callbacks.record.Record": "medsynth.lightning.record.Record",
    "medsynth.callbacks.sample_grid.SampleGrid": "medsynth.lightning.sample_grid.SampleGrid",
    "medsynth.feature_bank.FeatureBank": "medsynth.discriminator.feature_cache.FeatureCache",
    "medsynth.metrics.several.Several": "medsynth.metrics.collection.MetricCollection",
}
KEYS = {"feature_bank": "feature_cache"}  # old name of an option, anywhere in a configuration -> new one
VALUES = {"${run_dir}/feature_bank": "${run_dir}/feature_cache"}  # old value of any option -> new one


def load_configuration(path: Path) -> DictConfig:
    """Load config.yaml or composition.yaml of a run in today's names; nothing of it is resolved."""
    content = renamed(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    return OmegaConf.create(cast(dict[str, Any], content))


def renamed(node: Any) -> Any:
    """Return a copy of a plain configuration in today's names; one that has them already stays as it is."""
    if isinstance(node, Mapping):
        return {KEYS.get(key, key): renamed(_target(key, value)) for key, value in node.items()}
    if isinstance(node, list):
        return [renamed(value) for value in node]
    return VALUES.get(node, node) if isinstance(node, str) else node


def _target(key: Any, value: Any) -> Any:
    return TARGETS.get(value, value) if key == "_target_" and isinstance(value, str) else value
