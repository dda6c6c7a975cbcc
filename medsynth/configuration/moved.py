"""Classes and options that earlier versions named otherwise or lacked, so that the runs they left can still be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medsynth.untrusted_files import INVALID_YAML, UnreadableFile, load_yaml, load_yaml_text

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
_NO_CONFIGURATION = (OmegaConfBaseException, *INVALID_YAML)
_PATIENTS_AND_SPLITS = {"patient_level": None, "split_level": None}
_FOLDERS = {"class_level": 1, **_PATIENTS_AND_SPLITS}
_PICTURES = {"masks": "keep", **_FOLDERS}
ADDED = {  # ``_target_`` -> options that earlier versions lacked, with the values that do what these versions did
    "medsynth.data.files.image_files": {"join_duplicates": "none", "test_fraction": 0.0},
    "medsynth.data.dicom.Dicom": {"captures": True, **_FOLDERS},
    "medsynth.data.image_folder.ImageFolder": _PICTURES,
    "medsynth.data.nifti.Nifti": _PATIENTS_AND_SPLITS,
    "medsynth.data.paired_folder.PairedFolder": _PATIENTS_AND_SPLITS,
    "medsynth.data.mednist.MedNist": _PICTURES,
    "medsynth.data.phantom.Phantoms": {"num_test": 0},
    "medsynth.discriminator.vision_aided.VisionAidedDiscriminator": {"spectral": False},
}
# ``_target_`` -> option -> value that meant something else without the options of ADDED -> today's value
CHANGED: Mapping[str, Mapping[str, Mapping[Any, Any]]] = {
    "medsynth.data.nifti.Nifti": {"images": {None: "*"}},  # all volumes, also where some name themselves masks
}


def load_configuration(path: Path) -> DictConfig:
    """Load config.yaml or composition.yaml of a run in today's names; nothing of it is resolved.

    Raises:
        UnreadableFile: it is damaged, holds no options, or would expand too far.
        OSError: it is missing or may not be read.
    """
    if not isinstance(load_yaml(path), dict):
        raise UnreadableFile(path, "holds no options")
    try:  # with OmegaConf's own loader, which reads 1e-3 as a number
        content = renamed(OmegaConf.to_container(OmegaConf.create(load_yaml_text(path)), resolve=False))
        return OmegaConf.create(cast(dict[str, Any], content))
    except _NO_CONFIGURATION as error:
        raise UnreadableFile(path, "is no configuration that can be read") from error


def renamed(node: Any) -> Any:
    """Return a copy of a plain configuration in today's names; one that has them already stays as it is."""
    if isinstance(node, Mapping):
        named = {KEYS.get(key, key): renamed(_target(key, value)) for key, value in node.items()}
        return _completed(str(named.get("_target_")), named)
    if isinstance(node, list):
        return [renamed(value) for value in node]
    return VALUES.get(node, node) if isinstance(node, str) else node


def _completed(target: str, options: dict[Any, Any]) -> dict[Any, Any]:
    """Return the options of a class with those that earlier versions lacked, and today's values for theirs."""
    added = ADDED.get(target, {})
    if not added.keys() <= options.keys():
        for name, values in CHANGED.get(target, {}).items():
            before = options.get(name)
            if before is None or isinstance(before, str):  # a stranger's may be of any type
                options[name] = values.get(before, before)
    return added | options


def _target(key: Any, value: Any) -> Any:
    return TARGETS.get(value, value) if key == "_target_" and isinstance(value, str) else value
