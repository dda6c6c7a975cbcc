"""Measure how close generated images are to real ones: the function of the package, and what the command shares."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import medsynth
from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.choices import choices
from medsynth.configuration.input_errors import input_errors
from medsynth.configuration.override_text import override
from medsynth.contracts import InputError
from medsynth.evaluation.cautions import cautions
from medsynth.evaluation.evaluation_sets import EvaluationSets, Images, of_images
from medsynth.evaluation.translations import PairedResult
from medsynth.metrics.evaluation import Evaluation, check_classes
from medsynth.metrics.extractor_module import ExtractorModule
from medsynth.metrics.feature_store import FeatureStore, features_folder
from medsynth.metrics.measures import Measure
from medsynth.metrics.pairs import lpips_network

OPTIONS = ("image_size", "per_class", "pairs", "lpips", "batch_size", "device", "cache")  # of conf/evaluate.yaml


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """The measures of generated images against real ones.

    Attributes:
        real: description of the reference and its number of images.
        fake: the same of the generated images.
        training: number of real images apart from the reference.
        seed: of noise, subsets and pairs.
        extractors: configurations of the feature extractors, by name.
        measures: all measures, the most reliable distance of each extractor first.
        classes: the measures of each class by its name; empty unless they were asked for.
        notes: sentences about what biases the values.
        split: of the run's data that the reference is; None: it is not of a run.
        selected: the generator was chosen as the best on images of the reference.
        paired: errors of translations against their targets; None: it is no translation, or without pairs.
    """

    real: tuple[str, int]
    fake: tuple[str, int]
    training: int
    seed: int
    extractors: dict[str, Any]
    measures: tuple[Measure, ...]
    classes: dict[str, tuple[Measure, ...]]
    notes: tuple[str, ...]
    split: str | None = None
    selected: bool = False
    paired: PairedResult | None = None

    def __getitem__(self, name: str) -> Measure:
        """Return a measure by name: ``result["fd_mini"].value``."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(f"{name} was not measured; measured were {', '.join(measure.name for measure in self.measures)}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``medsynth evaluate`` writes them."""
        record: dict[str, Any] = {
            "medsynth": medsynth.__version__,
            "real": {"source": self.real[0], "count": self.real[1], "split": self.split, "selected": self.selected},
            "fake": {"source": self.fake[0], "count": self.fake[1]},
            "training": self.training,
            "seed": self.seed,
            "extractors": self.extractors,
            "measures": [measure.to_dict() for measure in self.measures],
            "notes": list(self.notes),
        }
        if self.paired is not None:
            record["translation"] = self.paired.to_dict()
        if self.classes:
            record["classes"] = {name: [m.to_dict() for m in measures] for name, measures in self.classes.items()}
        return record


def evaluate(
    real: Images,
    fake: Images,
    *overrides: str,
    extractors: str | Sequence[str] = ("mini", "pixels", "imagenet"),
    training: Images | None = None,
    seed: int = 0,
    **options: Any,
) -> EvaluationResult:
    """Measure how close the images ``fake`` are to the images ``real``, as ``medsynth evaluate`` does.

    PyTorch's random state stays as it is. Features of real images in files are kept in the user's cache folder.

    Args:
        real: the reference: a folder or zip archive of images, or a tensor ``(N, C, H, W)`` in [-1, 1].
        fake: the generated images, given in the same ways. Files are brought to the smallest size of all sets and the
            channels of ``fake``, or to those of the tensors.
        overrides: options as they are typed after ``medsynth evaluate``, such as
            ``"extractor.timm.backbone.model_name=resnet18"`` or ``"data=dicom"``.
        extractors: one or several files of ``conf/extractor/``.
        training: real images apart from ``real``, for the baseline and for the measures of memorization.
        seed: of subsets, pairs and intervals.
        options: ``image_size``, ``per_class``, ``pairs``, ``lpips``, ``batch_size``, ``device``, ``cache``, as
            ``medsynth evaluate --help`` describes them.

    Raises:
        InputError: an option that is not known, images that cannot be read or do not fit, weights that are missing.

    >>> result = evaluate("my/images", "generated")  # doctest: +SKIP
    >>> result["fd_mini"].value, result["fd_mini"].low, result["fd_mini"].high  # doctest: +SKIP
    """
    unknown = next((name for name in options if name not in OPTIONS), None)
    if unknown is not None:
        raise InputError(f"evaluate() has no option {unknown}: choose {', '.join(OPTIONS)}.")
    names = [extractors] if isinstance(extractors, str) else list(extractors)
    typed = [f"extractor=[{','.join(names)}]", *overrides, override("seed", seed)]
    typed += [override(name, value) for name, value in options.items()]
    # Networks are built with random weights first.
    with torch.random.fork_rng(devices=[]), input_errors("evaluate", typed):
        config = compose_checked("evaluate", typed)
        check_options(config)
        return evaluate_sets(of_images(real, fake, training, config), config)


def check_options(config: DictConfig) -> None:
    """Refuse numbers that are too small and an empty choice of extractors.

    Raises:
        InputError: names the option.
    """
    for name in ("batch_size", "pairs"):
        if config[name] < 1:
            raise InputError(f"{name}={config[name]} must be 1 or more.")
    for name in ("num_samples", "max_training"):
        if config[name] is not None and config[name] < 2:
            raise InputError(f"{name}={config[name]} must be 2 or more, or null.")
    if not config.extractor:
        raise InputError(
            f"extractor= is needed: one or several of {', '.join(choices('extractor'))}, as [mini,pixels]."
        )


def evaluate_sets(sets: EvaluationSets, config: DictConfig) -> EvaluationResult:
    """Compute all measures of two sets of images with the options of conf/evaluate.yaml.

    Raises:
        InputError: weights that are missing, images or features that are not finite, or all equal.
    """
    if config.per_class:
        check_classes(sets.real, sets.fake, sets.training, sets.class_names)
    device = choose_device(config.device)
    extractors = build_extractors(config, sets.image_size, sets.channels, device)
    with tempfile.TemporaryDirectory(prefix="medsynth-evaluate-") as folder:
        store = FeatureStore(
            Path(folder),
            cache=features_folder() if config.cache else None,
            batch_size=config.batch_size,
            device=device,
        )
        evaluation = Evaluation(
            store,
            real=sets.real,
            fake=sets.fake,
            training=sets.training,
            extractors=extractors,
            pairs=config.pairs,
            seed=config.seed,
            lpips=None if config.lpips is None else lpips_network(config.lpips),
        )
        measures = tuple(evaluation.measures())
        classes = evaluation.of_classes(sets.class_names) if config.per_class else {}
    return EvaluationResult(
        real=(sets.sources[0], sets.real.count),
        fake=(sets.sources[1], sets.fake.count),
        training=sets.training.count if sets.training else 0,
        seed=config.seed,
        extractors=extractor_options(config, sets.image_size, sets.channels),
        measures=measures,
        classes={name: tuple(of_class) for name, of_class in classes.items()},
        notes=(
            *sets.notes,
            *cautions(sets, per_class=config.per_class),
            *_notes_of_measures(measures, classes),
            *_notes_on_counts(sets, extractors.values()),
        ),
        split=sets.split,
        selected=sets.selected,
        paired=sets.paired,
    )


def choose_device(name: str) -> torch.device:
    """Return the device for ``device=``: auto, cpu or cuda.

    Raises:
        InputError: an unknown name, or no GPU where one is asked for.
    """
    has_gpu = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device={name} is unknown: choose auto, cpu or cuda.")
    if name == "cuda" and not has_gpu:
        raise InputError("device=cuda needs a GPU, and PyTorch finds none: choose auto or cpu.")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def extractor_options(config: DictConfig, image_size: int, channels: int) -> dict[str, Any]:
    """Return the configurations of the chosen extractors by name, for images of that size and channels."""
    return cast(dict[str, Any], OmegaConf.to_container(_for_images(config, image_size, channels), resolve=True))


def _for_images(config: DictConfig, image_size: int, channels: int) -> DictConfig:
    """Return the extractors of a copy in which ``data`` has the size and channels, which they refer to."""
    return OmegaConf.merge(config, {"data": {"image_size": image_size, "channels": channels}}).extractor


def build_extractors(
    config: DictConfig, image_size: int, channels: int, device: torch.device
) -> dict[str, ExtractorModule]:
    """Build the chosen extractors; the keys are their configurations.

    Raises:
        InputError: an option of an extractor is missing.
    """
    made: dict[str, ExtractorModule] = {}
    for name, node in _for_images(config, image_size, channels).items():
        for option in ("model_name", "weights"):
            if "backbone" in node and node.backbone[option] is None:
                raise InputError(f"extractor.{name}.backbone.{option}= is needed: see conf/extractor/{name}.yaml.")
        extractor = instantiate(node, _convert_="all").eval().requires_grad_(False).to(device)
        made[json.dumps(OmegaConf.to_container(node, resolve=True), sort_keys=True)] = extractor
    return made


def _notes_of_measures(measures: Sequence[Measure], classes: Mapping[str, Sequence[Measure]]) -> Iterator[str]:
    yield from (measure.note for measure in measures if measure.note)
    for name, of_class in classes.items():
        yield from (f"Class {name}: {measure.note}" for measure in of_class if measure.note)


def _notes_on_counts(sets: EvaluationSets, extractors: Iterable[ExtractorModule]) -> Iterator[str]:
    """Describe how the numbers of images bias the values."""
    fewest = min(sets.real.count, sets.fake.count)
    for extractor in extractors:
        if fewest <= extractor.num_features:
            yield (
                f"{fewest:,} images are no more than the {extractor.num_features:,} features of {extractor.name}: its "
                "Fréchet distance is biased upwards; compare by the kernel distance."
            )
