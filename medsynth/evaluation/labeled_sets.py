"""Sets of images with labels for training networks: of one or several runs, or of folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from medsynth.backbone.weights import sha256
from medsynth.contracts import InputError
from medsynth.data.preview import datasets
from medsynth.evaluation.folders import folder_images, open_folder
from medsynth.evaluation.image_sets import generated, split_of
from medsynth.evaluation.opened_run import OpenedRun, open_run
from medsynth.metrics.image_set import ImageSet
from medsynth.runs.existing import named_folders


class LabeledSets(NamedTuple):
    """Training, test and generated images with the labels of the same classes, or real ones with other targets.

    Attributes:
        training: real images that the generator was trained on.
        test: real images of no patient in ``training``, where patients are known.
        generated: a number -> about as many generated images with labels; of folders: all that there are.
        class_names: of the labels; with other targets of these: key points or regions.
        sources: descriptions of the three for people.
        notes: sentences about what may bias results.
        targets: (N, ...) of training and test images, such as key points or label maps; None: their labels.
    """

    training: ImageSet
    test: ImageSet
    generated: Callable[[int], ImageSet]
    class_names: tuple[str, ...]
    sources: tuple[str, str, str]
    notes: tuple[str, ...]
    targets: tuple[np.ndarray, np.ndarray] | None = None


def of_runs(config: DictConfig, device: torch.device) -> LabeledSets:
    """Take the data and the generator of a run with classes, or of several runs, one for each class.

    Args:
        config: ``run``, ``checkpoint``, ``trust``, ``split``, ``seed``, ``classes``, as in conf/utility.yaml.
        device: that generates.

    Raises:
        InputError: no run, generator, checkpoint or split of that name, no classes, or runs that do not fit together.
    """
    runs = [open_run(folder, config, device) for folder in named_folders(config.run)]
    if len(runs) > 1:
        names, parts = _class_names(runs, config), [_of_class(run, config, n) for n, run in enumerate(runs)]
    else:
        names, parts = _conditional(runs[0]), [RunImages.of(runs[0], config)]
    training, test = (joined(name, [getattr(part, name) for part in parts]) for name in ("training", "test"))
    test, dropped = of_other_patients(test, training)

    def make(count: int) -> ImageSet:
        total = training.count
        return joined("generated", [part.generated(-(-count * part.training.count // total)) for part in parts])

    split = parts[0].split
    return LabeledSets(training, test, make, names, run_sources(runs, split), (*dropped, *selection_note(split)))


def run_sources(runs: Sequence[OpenedRun], split: str) -> tuple[str, str, str]:
    """Return descriptions of training, test and generated images for people."""
    return (
        "; ".join(f"{run.data.description}, split train" for run in runs),
        "; ".join(f"{run.data.description}, split {split}" for run in runs),
        ", ".join(str(run.path) for run in runs),
    )


@dataclasses.dataclass(frozen=True)
class RunImages:
    """The images of one run; ``split`` is that of the test images."""

    training: ImageSet
    test: ImageSet
    generated: Callable[[int], ImageSet]
    split: str

    @classmethod
    def of(cls, run: OpenedRun, config: DictConfig) -> RunImages:
        """Take them as ``config`` says, see ``of_runs``; generated ones are made when they are asked for.

        Raises:
            InputError: the run has no such split.
        """
        split = config.split or ("val" if run.data.test_dataset is None else "test")
        if split not in ("val", "test") or split not in datasets(run.data):
            raise InputError(f"split={split} is not possible: choose val, or test where the run held test images out.")
        training, test = (split_of(run.data, run.trained, name) for name in ("train", split))
        key = {"generator": sha256(run.path), "seed": config.seed}

        def make(count: int) -> ImageSet:
            conditional = run.trained.num_classes > 0
            count = max(count, 2)
            made = generated(run.generator, count, reference=training, conditional=conditional, seed=config.seed)
            return dataclasses.replace(made, key={**key, "count": count})

        return cls(training, test, make, split)


def _conditional(run: OpenedRun) -> tuple[str, ...]:
    names = run.data.class_names
    if run.trained.num_classes == 0 or len(names) < 2:
        raise InputError(
            "This run's generator has no classes, and a classifier needs labels: train with conditional=true on data "
            "with classes, or one generator for each class, and give run=[a,b]."
        )
    return names


def _class_names(runs: Sequence[OpenedRun], config: DictConfig) -> tuple[str, ...]:
    """Return a class name for each run: those that are given, or that of the run's only class."""
    shapes = {(run.trained.data.image_size, run.trained.data.channels) for run in runs}
    if len(shapes) > 1:
        raise InputError("The runs of run=[...] have images of different sizes or channels: give runs of one size.")
    given = [str(name) for name in config.classes or ()]
    if given and len(given) != len(runs):
        raise InputError(f"classes={given} are {len(given)} names for {len(runs)} runs: give one for each run.")
    own = given or [run.data.class_names[0] for run in runs if len(run.data.class_names) == 1]
    if len(own) != len(runs) or len(set(own)) != len(own):
        raise InputError(
            "The classes of run=[...] are not known from the runs' data: name one for each run, such as "
            "classes=[healthy,ill]."
        )
    return tuple(own)


def _of_class(run: OpenedRun, config: DictConfig, number: int) -> RunImages:
    """Return the images of a run with the label ``number``."""
    part = RunImages.of(run, config)

    def labeled(images: ImageSet) -> ImageSet:
        key = None if images.key is None else {**images.key, "class": number}
        return dataclasses.replace(images, labels=np.full(images.count, number), key=key)

    return RunImages(
        labeled(part.training), labeled(part.test), lambda count: labeled(part.generated(count)), part.split
    )


def of_folders(config: DictConfig) -> LabeledSets:
    """Take folders or zip archives with one subfolder for each class, or as ``config.data`` says.

    They are brought to the smallest size of all three, or to ``config.image_size``, and to the channels of the
    generated images.

    Args:
        config: ``real``, ``fake``, ``test``, ``image_size`` and ``data``, as in conf/utility.yaml.

    Raises:
        InputError: a folder cannot be read, or the classes differ.
    """
    opened = {name: open_folder(name, str(config[name]), config) for name in ("real", "test", "fake")}
    size = config.image_size or min(folder.side for folder in opened.values())
    options = {"data": {"image_size": size, "channels": opened["fake"].channels}}
    config = OmegaConf.merge(config, options)  # pyright: ignore
    sources = {name: folder_images(name, folder, config) for name, folder in opened.items()}
    names = sources["real"].class_names
    for name, source in sources.items():
        if len(source.class_names) < 2 or source.class_names != names:
            raise InputError(
                f"{name}= has the classes {_listed(source.class_names)} and real= has {_listed(names)}: "
                "give folders with the same subfolders, one for each class."
            )

    def described(name: str) -> str:
        return str(config[name]) if config.data.get("show_paths") else f"{name}="

    notes = [note for source in sources.values() for note in source.notes]
    test, dropped = of_other_patients(sources["test"].images, sources["real"].images)
    shared = set(sources["real"].digests) & set(sources["test"].digests)
    if shared:
        notes.append(f"{len(shared):,} images of test= are in real= too, which biases all arms upwards: remove them.")
    return LabeledSets(
        sources["real"].images,
        test,
        lambda count: sources["fake"].images,
        names,
        (described("real"), described("test"), described("fake")),
        (*notes, *dropped),
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def joined(name: str, parts: Sequence[ImageSet]) -> ImageSet:
    """Return the images of several sets, one set after the other; patients are those of all where all know them."""
    starts = np.cumsum([0, *(part.count for part in parts)])

    def read(numbers: Sequence[int]) -> Tensor:
        which = np.searchsorted(starts, np.asarray(numbers), side="right") - 1
        if len(set(which.tolist())) == 1:
            return parts[which[0]].read([int(number) - int(starts[which[0]]) for number in numbers])
        return torch.cat([parts[p].read([int(n) - int(starts[p])]) for p, n in zip(which, numbers, strict=True)])

    labels, groups = ([getattr(part, field) for part in parts] for field in ("labels", "groups"))
    return ImageSet(
        name,
        int(starts[-1]),
        read,
        None if any(own is None for own in labels) else np.concatenate(labels),
        {"parts": [None if part.key is None else dict(part.key) for part in parts]},
        None if any(own is None for own in groups) else np.concatenate(groups),
    )


def of_new_patients(test: ImageSet, training: ImageSet) -> np.ndarray:
    """Return which test images (N,) are of patients who are not in the training images; all where none are known.

    Raises:
        InputError: not even two are.
    """
    if test.groups is None or training.groups is None:
        return np.ones(test.count, dtype=bool)
    apart = ~np.isin(test.groups, training.groups)
    if apart.sum() < 2:
        raise InputError("All patients of the test images are in the training images too: give images of other people.")
    return apart


def of_other_patients(test: ImageSet, training: ImageSet) -> tuple[ImageSet, list[str]]:
    """Return the test images of patients who are not in the training images, and a sentence about the others.

    Raises:
        InputError: none are left.
    """
    apart = of_new_patients(test, training)
    if apart.all():
        return test, []
    left_out = int((~apart).sum())
    return test.subset(np.flatnonzero(apart)), [f"{left_out:,} test images of patients in the training are left out."]


def selection_note(split: str) -> list[str]:
    """Return a sentence about test images on which a generator was selected."""
    if split != "val":
        return []
    return [
        "The test images are the runs' validation images, on which their generators may have been selected: "
        "data.test_fraction= holds out others in a new training."
    ]
