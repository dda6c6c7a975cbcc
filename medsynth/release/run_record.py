"""A run as it may be given away: generator, configuration and results, without names of people or places."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth.configuration.moved import renamed
from medsynth.configuration.trusted_paths import check_links
from medsynth.generator.export import read_architecture
from medsynth.generator.trained import TrainedGenerator, TrainedTranslator, load_trained
from medsynth.release.private_words import (
    PrivateWords,
    known_modality,
    known_unit,
    numbers_alone,
    plain_options,
    public_statistics,
)
from medsynth.report.run_files import finite
from medsynth.runs.layout import CONFIGURATION, SUMMARY
from medsynth.runs.records import read_json
from medsynth.translate.sources import sources_of
from medsynth.untrusted_files import load_yaml

RESULTS = ("evaluation", "utility", "audit", "verdict")  # folders of a run with what was measured of its generator
COMPONENTS = (  # a discriminator holds its backbone and its layers
    "task",
    "generator",
    "encoder",
    "discriminator",
    "loss",
    "penalty",
    "generator_penalty",
    "reconstruction",
    "augment",
    "generator_optimizer",
    "discriminator_optimizer",
    "schedules",
)
_TRAINING = ("seed", "max_images", "max_epochs", "val_every_images", "conditional", "tf32")
_METRIC = re.compile(r"val/[A-Za-z0-9_@.]{1,60}")
_COUNTS = ("num_train", "num_val", "num_test")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The parts of a run that a model card and the exported files are made of.

    Attributes:
        generator: the trained generator or translator, with a card that names no person or place.
        rebuild: the class of its network as ``_target_``, and the class's arguments.
        sha256: of the run's file ``generator.safetensors``.
        composition: components of the training and their options; empty where the run has no configuration.
        summary: summary.json of the run; empty where there is none.
        results: the records of ``evaluation/``, ``utility/``, ``audit/`` and ``verdict/``, by the folder's name.
        private: the paths that no text may hold.
    """

    generator: TrainedGenerator | TrainedTranslator
    rebuild: Mapping[str, Any]
    sha256: str
    composition: Mapping[str, Any]
    summary: Mapping[str, Any]
    results: Mapping[str, tuple[Mapping[str, Any], ...]]
    private: PrivateWords

    @property
    def environment(self) -> Mapping[str, Any]:
        """The provenance of the run; empty where it is not recorded."""
        environment = self.summary.get("environment")
        return environment if isinstance(environment, Mapping) else {}

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of training, validation and test images that are recorded."""
        return {name: self.environment[name] for name in _COUNTS if isinstance(self.environment.get(name), int)}


def read_run(run: str | Path, *, trust: bool = False, class_names: bool = True) -> RunRecord:
    """Read a run's folder.

    Args:
        run: the folder, or a ``generator.safetensors`` alone, of which no training is known.
        trust: the files are the user's own and may name any generator.
        class_names: keep the names of classes; else they become ``class 0``, ``class 1``, ...

    Raises:
        InputError: there is no generator, or a file is damaged or could run code.
    """
    generator = load_trained(run, trust=trust)
    if isinstance(generator, TrainedTranslator):
        sources_of(generator)  # raises where its card, a file of anyone, is damaged
    folder = generator.path.parent
    whole = Path(run).expanduser().is_dir()
    if whole:
        check_links(folder, trusted=trust)
    config = _configuration(folder / CONFIGURATION) if whole else {}
    summary = read_json(folder / SUMMARY) if whole else {}
    names = [str(name) for name in generator.card.get("class_names") or []]
    shown = names if class_names else [f"class {number}" for number in range(len(names))]
    private = PrivateWords(config, folder, {} if class_names else dict(zip(names, shown, strict=True)))
    with generator.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    composition = _composition(config)
    card = _public_card(generator.card, summary, shown)
    if isinstance(generator, TrainedTranslator):
        card |= _translators_entries(generator.card)
    card["trained"] = _networks(generator, composition)
    return RunRecord(
        generator=dataclasses.replace(generator, card=card),
        rebuild=read_architecture(generator.path),
        sha256=digest,
        composition=composition,
        summary=summary,
        results={name: _records(folder / name) if whole else () for name in RESULTS},
        private=private,
    )


def _configuration(path: Path) -> dict[str, Any]:
    try:
        config = renamed(load_yaml(path))
    except FileNotFoundError:
        return {}
    return config if isinstance(config, dict) else {}


def _composition(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the components that are chosen, the training's options, and the numbers among those of the data."""
    chosen = {name: plain_options(config[name]) for name in COMPONENTS if config.get(name)}
    task = chosen.get("task")
    if isinstance(task, dict):  # what is below it are copies of the components, and the measures of validation
        chosen["task"] = {key: value for key, value in task.items() if not isinstance(value, dict)}
    training = {name: config[name] for name in _TRAINING if isinstance(config.get(name), bool | int | float)}
    trainer = config.get("trainer")
    if isinstance(trainer, Mapping):
        training["trainer"] = plain_options({"precision": trainer.get("precision")})
    data = numbers_alone(config.get("data"))
    return {**training, **chosen, **({"data": data} if data else {})}


def _records(folder: Path) -> tuple[Mapping[str, Any], ...]:
    records = (read_json(path) for path in sorted(folder.glob("*.json")))
    return tuple(record for record in records if record)


def _networks(generator: TrainedGenerator | TrainedTranslator, composition: Mapping[str, Any]) -> str:
    """Name the classes of the networks."""
    discriminator = composition.get("discriminator")
    target = discriminator.get("_target_") if isinstance(discriminator, Mapping) else None
    against = f" against {target.rpartition('.')[2]}" if isinstance(target, str) else ""
    return type(generator.network).__name__ + against


def _public_card(card: Mapping[str, Any], summary: Mapping[str, Any], class_names: list[str]) -> dict[str, Any]:
    """Return a generator's card of numbers and known words, and the names of classes."""
    intensity, environment = card["intensity"], summary.get("environment") or {}
    counted, digest = environment.get("num_train"), environment.get("data_fingerprint")
    data = f"{counted} training images, fingerprint {digest}" if counted and _is_digest(digest) else "not recorded"
    return {
        "images_seen": numbers_alone(card.get("images_seen")),
        "metrics": _values(card.get("metrics")),
        "data": data,
        "class_names": class_names,
        "intensity": _public_intensity(intensity),
        "spacing": numbers_alone(card.get("spacing")),
        "modality": known_modality(card.get("modality")),
        "seed": numbers_alone(card.get("seed")),
    }


def _translators_entries(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a translator's card has beside a generator's, of numbers and known words."""
    sizes = {name: numbers_alone(card.get(name)) for name in ("channels", "image_size", "source_channels")}
    source = card.get("source_intensity")
    return {
        "kind": card["kind"],
        **sizes,
        "source_intensity": None if source is None else _public_intensity(source),
        "source_statistics": public_statistics(card.get("source_statistics")),
    }


def _public_intensity(intensity: Mapping[str, Any]) -> dict[str, Any]:
    return {**numbers_alone(intensity), "unit": known_unit(intensity.get("unit"))}


def _values(metrics: Any) -> dict[str, float]:
    """Return the finite values of a validation by name."""
    items = metrics.items() if isinstance(metrics, Mapping) else ()
    return {str(name): value for name, value in items if _METRIC.fullmatch(str(name)) and finite(value) is not None}


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and 8 <= len(text) <= 64 and set(text) <= set("0123456789abcdef")
