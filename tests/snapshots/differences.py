"""What README's commands do otherwise than the record in ``readme.json`` says, each with its reason.

Renamed classes and options (``medsynth.configuration.moved``) need no line here. ``python -m tests.snapshots.update``
records today's state; then this list is emptied.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Difference:
    """Lines ``key: value`` that a composition has no longer, and those that it has instead, as shell patterns."""

    reason: str
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


COMPOSITIONS: tuple[Difference, ...] = (
    Difference(
        "frozen features of real images are a cache, not a bank; runs delete the folder at their end",
        old=("task.feature_cache.folder: */feature_bank",),
        new=("task.feature_cache.folder: */feature_cache",),
    ),
    Difference(
        "options change with the images seen where a schedule is given; by default none is",
        new=("schedules: {}", "task.schedules: {}"),
    ),
    Difference(
        "experiment=r3gan has its paper's schedules, and gammas follow them instead of staying at 2",
        old=("penalty.r[12].gamma: 2.0", "task.penalties.r[12].gamma: 2.0"),
        new=("penalty.r[12].gamma: 0.1", "task.penalties.r[12].gamma: 0.1", "schedules.*.*", "task.schedules.*.*"),
    ),
    Difference("duplicates stay in one split whatever the patients", new=("data.join_duplicates: near",)),
    Difference(
        "each command that reads a folder or a file of a run refuses a stranger's unless it is trusted",
        new=("trust: False", "search.trust: False"),
    ),
    Difference(
        "test images are held out where there are enough",
        old=("data.test_fraction: 0.0",),
        new=("data.test_fraction: auto", "data.source.num_test: None"),
    ),
    Difference(
        "readers have options for what is no image of the set: captures, raw mammograms, other types, masks",
        new=(
            "data.reader.captures: False",
            "data.reader.intent: None",
            "data.reader.image_type: None",
            "data.reader.masks: raise",
        ),
    ),
    Difference(
        "folders are a given split, classes or patients by their names",
        new=("data.reader.class_level: auto", "data.reader.patient_level: auto", "data.reader.split_level: auto"),
    ),
    Difference("classes can be drawn equally often", new=("data.balance_classes: False",)),
    Difference("an evaluation measures in the features of a network of ImageNet too", new=("extractor.imagenet.*",)),
    Difference("copies of training images are found among two folders, too", new=("training: None",)),
)
COMMANDS: dict[str, str] = {  # recorded command -> the one that README has instead
    "python train.py 'sweep=[seeds,losses]'": "python train.py 'vary=[seeds,losses]'",
}
FILES: dict[str, str] = {}  # name of a recorded file -> today's name; "" where it is not written any more
