"""Sets of images of a run whose data knows key points or label maps; generated images have neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from medsynth.contracts import InputError
from medsynth.data.files import ImageFiles
from medsynth.data.label_maps import label_maps
from medsynth.data.phantom.source import LANDMARKS, Phantoms
from medsynth.evaluation.labeled_sets import LabeledSets, RunImages, of_new_patients, run_sources, selection_note
from medsynth.evaluation.opened_run import OpenedRun, open_run
from medsynth.runs.existing import named_folders


def with_points(config: DictConfig, device: torch.device) -> LabeledSets:
    """Take a run whose data knows key points: phantoms. Targets are float32 (N, points, 2), columns and rows in pixels.

    Args:
        config: ``run``, ``checkpoint``, ``trust``, ``split``, ``seed``, as in conf/utility.yaml.
        device: that generates.

    Raises:
        InputError: no run, generator, checkpoint or split of that name, several runs, or data without key points.
    """
    run = open_run(_only_run(config), config, device)
    source = run.data.source
    if not isinstance(source, Phantoms):
        raise InputError(
            "problem=keypoints needs data that knows its key points, which only phantoms do: choose "
            "problem=classification, or call medsynth.utility.study.compare with points of your own (docs/utility.md)."
        )
    part = RunImages.of(run, config)
    sides = (("train", part.training), (part.split, part.test))
    points = [np.stack([source.landmarks(split, n) for n in range(images.count)]) for split, images in sides]
    of_training, of_test = (np.asarray(np.isfinite(own).any(axis=(0, 2))) for own in points)
    seen = of_training & of_test
    names = tuple(name for name, visible in zip(LANDMARKS, seen.tolist(), strict=True) if visible)
    return _sets(run, part, (points[0][:, seen], points[1][:, seen]), names)


def with_label_maps(config: DictConfig, device: torch.device) -> LabeledSets:
    """Take a run whose data has label maps: phantoms with lesions, or NIfTI volumes with label volumes.

    Targets are uint8 (N, H, W): 0 is the background, n the n-th region.

    Args:
        config: as of ``with_points``.
        device: that generates.

    Raises:
        InputError: no run, generator, checkpoint or split of that name, several runs, or data without label maps.
    """
    run = open_run(_only_run(config), config, device)
    source = run.data.source
    if not isinstance(source, Phantoms | ImageFiles):
        raise InputError(
            "problem=segmentation needs data with label maps, which phantoms and NIfTI volumes have: choose "
            "problem=classification, or call medsynth.utility.study.compare with maps of your own (docs/utility.md)."
        )
    part = RunImages.of(run, config)
    if isinstance(source, ImageFiles):
        names, maps = label_maps(source, ("train", part.split))
    else:
        sides = (("train", part.training), (part.split, part.test))
        names = ("lesion",)
        maps = [np.stack([source.lesion_mask(split, n) for n in range(images.count)]) for split, images in sides]
        if not maps[0].any():
            raise InputError("These phantoms have no lesions to segment: train on data.source.classes=[one_lesion].")
    return _sets(run, part, (maps[0], maps[1]), names)


def _only_run(config: DictConfig) -> Path:
    folders = named_folders(config.run)
    if len(folders) > 1:
        raise InputError(f"problem={config.problem} takes one run: give run= its folder.")
    return folders[0]


def _sets(
    run: OpenedRun, part: RunImages, targets: tuple[np.ndarray, np.ndarray], names: tuple[str, ...]
) -> LabeledSets:
    """Return the sets, without test images of patients in the training."""
    apart = np.flatnonzero(of_new_patients(part.test, part.training))
    left_out = part.test.count - len(apart)
    notes = [f"{left_out:,} test images of patients in the training are left out."] if left_out else []
    return LabeledSets(
        part.training,
        part.test.subset(apart) if left_out else part.test,
        part.generated,
        names,
        run_sources([run], part.split),
        (*notes, *selection_note(part.split)),
        (targets[0], targets[1][apart]),
    )
