"""``medsynth audit``: look for copies of training images, attack membership, link patients; answer whether it leaks."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import torch
from omegaconf import DictConfig
from torchvision.utils import make_grid, save_image

from medsynth.audit.audit import AuditOptions, audit
from medsynth.audit.result import AuditResult, Limits
from medsynth.contracts import InputError
from medsynth.evaluation.answers import NO, YES
from medsynth.evaluation.audit_sets import AuditSets, sets_of_folders, sets_of_run
from medsynth.evaluation.evaluate import build_extractors, choose_device, extractor_options
from medsynth.files import replacing, write_json
from medsynth.metrics.feature_store import FeatureStore, features_folder
from medsynth.report.audit import audit_text
from medsynth.report.final_report import refresh_report
from medsynth.runs.layout import record_path

_LEAST = {"batch_size": 1, "planted": 20, "max_members": 20}
_SHARES = ("level", "max_copies", "max_auc", "seen_copies", "seen_auc")
_MARGIN = 2  # pixels between a generated and a training image, and between pairs


def run(config: DictConfig) -> None:
    """Print the answer and all measures, write them to a file, draw the closest pairs; exit with 1 where it is no.

    Nothing is sent to logging services: the pairs show real images.
    """
    logging.getLogger("timm").setLevel(logging.WARNING)  # its messages on the origin of weights
    _check_options(config)
    device, out = choose_device(config.device), _target(config)
    sets = sets_of_run(config, device) if config.run else sets_of_folders(config)
    result = _audited(sets, config)
    record = result.to_dict()
    print(audit_text(record))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, record)
        pairs = out.with_name(f"{out.stem}_pairs.png")
        _draw_pairs(pairs, result, sets)
        print(f"\nThe record is in {out}; the closest pairs, with real images, are in {pairs}.")
    if config.run:
        refresh_report(Path(config.run))
    if result.answer == NO or (config.strict and result.answer != YES):
        sys.exit(1)


def _target(config: DictConfig) -> Path | None:
    if config.out is not None:
        return Path(config.out)
    return record_path(Path(config.run), "audit", config.checkpoint) if config.run else None


def _check_options(config: DictConfig) -> None:
    """Refuse numbers that are too small or no shares.

    Raises:
        InputError: names the option.
    """
    for name, least in _LEAST.items():
        if config[name] < least:
            raise InputError(f"{name}={config[name]} must be {least} or more.")
    for name in ("num_samples", "max_training"):
        if config[name] is not None and config[name] < 2:
            raise InputError(f"{name}={config[name]} must be 2 or more, or null.")
    for name in _SHARES:
        if not 0 <= config[name] <= 1 or (name == "level" and not 0 < config.level < 1):
            raise InputError(f"{name}={config[name]:g} must lie between 0 and 1, such as {name}=0.01.")


def _audited(sets: AuditSets, config: DictConfig) -> AuditResult:
    """Audit sets of images with the options of conf/audit.yaml.

    Raises:
        InputError: weights that are missing, images that are not finite, or too few held-out images.
    """
    device, networks = choose_device(config.device), config.get("extractor")
    with tempfile.TemporaryDirectory(prefix="medsynth-audit-") as folder:
        return audit(
            sets.training,
            sets.held_out,
            sets.fake,
            store=FeatureStore(
                Path(folder),
                cache=features_folder() if config.cache else None,
                batch_size=config.batch_size,
                device=device,
            ),
            extractors=build_extractors(config, sets.image_size, sets.channels, device) if networks else {},
            logits=sets.logits,
            options=AuditOptions(
                planted=config.planted,
                max_members=config.max_members,
                seed=config.seed,
                limits=Limits(**{name: float(config[name]) for name in _SHARES}),
            ),
            untold=sets.untold,
            sources=sets.sources,
            notes=sets.notes,
            extractor_options=extractor_options(config, sets.image_size, sets.channels) if networks else {},
        )


def _draw_pairs(path: Path, result: AuditResult, sets: AuditSets) -> None:
    """Draw the closest pairs, each a generated image beside its training image, the closest first.

    The picture shows real images: it stays in the folder that it is written to.
    """
    fake, training = (list(numbers) for numbers in list(zip(*result.pairs, strict=True))[:2])
    sides = [images.read(numbers) for images, numbers in ((sets.fake, fake), (sets.training, training))]
    pairs = torch.cat([side.clamp(-1, 1).cpu() / 2 + 0.5 for side in sides], dim=3)
    with replacing(path) as temporary:
        save_image(make_grid(pairs, nrow=6, padding=_MARGIN, pad_value=1.0), temporary, format="png")
