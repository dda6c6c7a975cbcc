"""Tasks from plain options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medsynth.contracts import InputError
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.classification import LinearProbe, Network, WholeNetwork
from medsynth.utility.keypoints import KeyPoints
from medsynth.utility.segmentation import Segmentation
from medsynth.utility.task import Task

LEARNING_RATES = {"head": 1e-2, "all": 1e-3, "keypoints": 5e-3, "segmentation": 5e-3}
TRAINED = ("head", "all")


def classification_task(
    network: Mapping[str, Any],
    augmentation: Mapping[str, Any],
    class_names: tuple[str, ...],
    *,
    views: int,
    device: str,
) -> Task:
    """Return the task of ``network.train``.

    Raises:
        InputError: an option is out of range.
    """
    trained, described = network["train"], {name: value for name, value in network.items() if name != "train"}
    if trained not in TRAINED:
        raise InputError(f"network.train={trained} is unknown: choose {' or '.join(TRAINED)}.")
    if views < 1:
        raise InputError(f"views={views} must be 1 or more.")
    simple = Augmentation(**augmentation)
    if trained == "all":
        return WholeNetwork(Network(**described), class_names, augmentation=simple, device=device)
    return LinearProbe(Network(**described), class_names, augmentation=simple, views=views, device=device)


def keypoint_task(augmentation: Mapping[str, Any], names: Sequence[str], *, width: int, device: str) -> Task:
    """Return the task of localizing the named key points.

    Raises:
        InputError: an option is out of range.
    """
    if width < 1:
        raise InputError(f"width={width} must be 1 or more.")
    return KeyPoints(names, augmentation=Augmentation(**augmentation), width=width, device=device)


def segmentation_task(augmentation: Mapping[str, Any], regions: Sequence[str], *, width: int, device: str) -> Task:
    """Return the task of segmenting the named regions.

    Raises:
        InputError: an option is out of range.
    """
    if width < 1:
        raise InputError(f"width={width} must be 1 or more.")
    return Segmentation(regions, augmentation=Augmentation(**augmentation), width=width, device=device)
