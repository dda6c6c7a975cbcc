"""``medsynth evaluate``: how near the images of a trained generator, or of a folder, come to real ones."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

import medsynth
from medsynth.contracts import InputError
from medsynth.evaluation.evaluation_sets import EvaluationSets, of_folders, of_run
from medsynth.files import write_json
from medsynth.logger.wandb import reopen
from medsynth.metrics.evaluation import Evaluation
from medsynth.metrics.feature_store import FeatureStore, features_folder
from medsynth.metrics.pairs import lpips_network
from medsynth.report.evaluation import evaluation_text


def run(config: DictConfig) -> None:
    """Print the table of all measures, and write them to a file."""
    logging.getLogger("timm").setLevel(logging.WARNING)  # it tells where each network's weights come from
    _check(config)
    out, device = _target(config), _device(config)
    compared = of_run(config, device) if config.run else of_folders(config)
    extractors = _extractors(config, device)
    with tempfile.TemporaryDirectory(prefix="medsynth-evaluate-") as folder:
        store = FeatureStore(
            Path(folder),
            cache=features_folder() if config.cache else None,
            batch_size=config.batch_size,
            device=device,
        )
        evaluation = Evaluation(
            store,
            real=compared.real,
            fake=compared.fake,
            training=compared.training,
            extractors=extractors,
            pairs=config.pairs,
            seed=config.seed,
            lpips=None if config.lpips is None else lpips_network(config.lpips),
        )
        record = _record(config, compared, evaluation)
    record["notes"] += _small(compared, extractors.values())
    print(evaluation_text(record))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, record)
        print(f"\nThe record is in {out}.")
    service = reopen(Path(config.run)) if config.run else None
    if service:
        service.log_summary(_values(record))
        service.close(failed=False)


def _check(config: DictConfig) -> None:
    if bool(config.run) == bool(config.real or config.fake) or bool(config.real) != bool(config.fake):
        raise InputError("Give run=, the folder of a run, or both real= and fake=, folders or zip archives of images.")
    for name in ("batch_size", "pairs"):
        if config[name] < 1:
            raise InputError(f"{name}={config[name]} must be 1 or more.")
    for name in ("num_samples", "max_training"):
        if config[name] is not None and config[name] < 2:
            raise InputError(f"{name}={config[name]} must be 2 or more, or null.")
    typed = [override.partition("=")[0] for override in HydraConfig.get().overrides.task]
    of_others = ("data", "image_size") if config.run else ("split", "num_samples", "max_training", "checkpoint")
    for name in typed:
        if name.split(".")[0] in of_others:
            other = "real= and fake=: a run has its own data" if config.run else "run="
            raise InputError(f"{name}= goes with {other}.")
    if not config.extractor:
        raise InputError("extractor= is needed: mini, pixels, inception, timm, radimagenet, classifier, or [a,b].")


def _target(config: DictConfig) -> Path | None:
    if config.out is not None:
        return Path(config.out)
    name = Path(config.checkpoint).stem if config.checkpoint else "generator"
    return Path(config.run) / "evaluation" / f"{name}.json" if config.run else None


def _device(config: DictConfig) -> torch.device:
    there = torch.cuda.is_available()
    if config.device not in ("auto", "cpu", "cuda") or (config.device == "cuda" and not there):
        raise InputError(f"device={config.device} is not there: choose auto or cpu.")
    return torch.device("cuda" if there and config.device != "cpu" else "cpu")


def _extractors(config: DictConfig, device: torch.device) -> dict[str, nn.Module]:
    """The chosen ones, by their configuration."""
    made = {}
    for name, node in config.extractor.items():
        for option in ("model_name", "weights"):
            if "backbone" in node and node.backbone[option] is None:
                raise InputError(f"extractor.{name}.backbone.{option}= is needed: see conf/extractor/{name}.yaml.")
        extractor = instantiate(node, _convert_="all").eval().requires_grad_(False).to(device)
        made[json.dumps(OmegaConf.to_container(node, resolve=True), sort_keys=True)] = extractor
    return made


def _record(config: DictConfig, compared: EvaluationSets, evaluation: Evaluation) -> dict[str, Any]:
    record = {
        "medsynth": medsynth.__version__,
        "real": {"source": compared.sources[0], "count": compared.real.count},
        "fake": {"source": compared.sources[1], "count": compared.fake.count},
        "training": compared.training.count if compared.training else 0,
        "seed": config.seed,
        "extractors": OmegaConf.to_container(config.extractor, resolve=True),
        "measures": [measure.record() for measure in evaluation.measures()],
        "notes": list(compared.notes),
    }
    if config.per_class:
        of_classes = evaluation.of_classes(compared.class_names)
        record["classes"] = {name: [m.record() for m in measures] for name, measures in of_classes.items()}
    return record


def _values(record: dict[str, Any]) -> dict[str, float]:
    """All measures by name, with the ends of their intervals and their baselines; those of a class below its name."""
    groups = {"": record["measures"], **{f"{name}/": measures for name, measures in record.get("classes", {}).items()}}
    values = {}
    for group, measures in groups.items():
        for measure in measures:
            for end in ("value", "low", "high", "baseline"):
                suffix = "" if end == "value" else f"_{end}"
                if math.isfinite(measure[end]):
                    values[f"evaluation/{group}{measure['name']}{suffix}"] = measure[end]
    return values


def _small(compared: EvaluationSets, extractors: Iterable[nn.Module]) -> Iterator[str]:
    """What the numbers of images do to the values."""
    fewest = min(compared.real.count, compared.fake.count)
    for extractor in extractors:
        if fewest <= extractor.num_features:
            yield (
                f"{fewest:,} images are no more than the {extractor.num_features:,} features of {extractor.name}: its "
                "Fréchet distance is biased upwards, and the kernel distance is the one to go by."
            )
    if compared.training is None:
        yield "There are no training images beside the reference: baselines are of its halves, at half of the N."
    elif compared.training.count < compared.fake.count:
        yield f"There are only {compared.training.count:,} training images: baselines are at that N, and worse for it."
