"""``medsynth generate``: images from a trained generator in the format of choice, with a contact sheet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

import medsynth
from medsynth.contracts import InputError, Intensity, counter_seed, noise
from medsynth.data.writer import WRITERS, ImageSet
from medsynth.generator.export import load_generator

SHEET = 100  # images on the contact sheet


def run(config: DictConfig) -> None:
    """Write ``num_samples`` images to the folder ``out``, with ``contact_sheet.png`` and ``generate.json``."""
    source, out = _source(config.run), _target(config.out)
    if config.num_samples < 1 or config.batch_size < 1:
        raise InputError(f"num_samples={config.num_samples} and batch_size={config.batch_size} must be 1 or more.")
    if config.format not in WRITERS:
        raise InputError(f"format={config.format} is unknown: choose {', '.join(WRITERS)}.")
    generator, card = load_generator(source)
    labels = _labels(config.label, card["class_names"], config.num_samples)
    digest = _sha256(source)
    images = _image_set(config, generator, card, labels, digest)

    # Complete or absent: written under another name and renamed at the end.
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        writer = WRITERS[config.format](temporary, images)
        shown = []
        for number, image in enumerate(_made(generator, labels, config)):
            writer.add(number, image, None if labels is None else int(labels[number]))
            if number < SHEET:
                shown.append(image)
        writer.close()
        sheet = make_grid(torch.stack(shown) / 2 + 0.5, nrow=10, padding=1)
        save_image(sheet, temporary / "contact_sheet.png")
        record = _record(config, source, digest, card, writer.stored)
        (temporary / "generate.json").write_text(json.dumps(record, indent=2) + "\n")
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    intensity = images.intensity
    print(
        f"{config.num_samples} images of {source} are in {out / writer.place}, an overview in "
        f"{out / 'contact_sheet.png'}: black is {intensity.low:g} and white {intensity.high:g} {intensity.unit}."
    )


def _image_set(
    config: DictConfig, generator: nn.Module, card: dict[str, Any], labels: Tensor | None, digest: str
) -> ImageSet:
    spacing = card.get("spacing")  # the cards of older runs have neither this nor the modality
    with torch.inference_mode():
        one = generator(torch.zeros(1, generator.latent_dim), None if labels is None else labels[:1])
    return ImageSet(
        shape=(config.num_samples, *one.shape[1:]),
        intensity=Intensity(**card["intensity"]),
        spacing=tuple(spacing) if spacing else None,
        modality=card.get("modality") or "",
        class_names=tuple(card["class_names"]),
        version=medsynth.__version__,
        generator=digest[:16],
        seed=config.seed,
    )


def _made(generator: nn.Module, labels: Tensor | None, config: DictConfig) -> Iterator[Tensor]:
    """The images one by one: float64 (C, H, W) within [-1, 1]."""
    seed = counter_seed("generate", config.seed)
    for start in tqdm(range(0, config.num_samples, config.batch_size), unit="batch", desc="generating"):
        count = min(config.batch_size, config.num_samples - start)
        z = noise(count, generator.latent_dim, seed=seed, start=start)
        with torch.inference_mode():
            images = generator(z, None if labels is None else labels[start : start + count]).double()
        if not images.isfinite().all():
            raise InputError(f"run={config.run} makes values that are not finite numbers: choose a run that converged.")
        yield from images.clamp(-1, 1)


def _record(
    config: DictConfig, source: Path, digest: str, card: dict[str, Any], stored: dict[str, Any]
) -> dict[str, Any]:
    """What was made of what, for generate.json; ``stored`` as ``data.writer.base.Writer`` has it."""
    return {
        "generator": str(source),
        "generator_sha256": digest,
        "version": medsynth.__version__,
        "num_samples": config.num_samples,
        "seed": config.seed,
        "label": config.label,
        "format": config.format,
        "intensity": card["intensity"],
        "stored": stored,
        "spacing": card.get("spacing"),
        "card": card,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(run: str | None) -> Path:
    if run is None:
        raise InputError("run= is needed: the folder of a run, for example run=outputs/2026-01-31/12-00-00.")
    path = Path(run)
    if not path.exists():
        raise InputError(f"run={run} does not exist: give the folder of a run, or a generator.safetensors.")
    return path / "generator.safetensors" if path.is_dir() else path


def _target(out: str | None) -> Path:
    if out is None:
        raise InputError("out= is needed: the folder to write the images to, for example out=generated.")
    path = Path(out)
    if path.exists():
        raise InputError(f"out={out} exists already: name a new folder, so that nothing is overwritten.")
    return path


def _labels(label: Any, class_names: list[str], count: int) -> Tensor | None:
    if not class_names:
        if label is not None:
            raise InputError(f"label={label} has no meaning here: this generator was trained without conditional=true.")
        return None
    if label is None:
        return torch.arange(count) % len(class_names)
    names = {name: index for index, name in enumerate(class_names)} | {str(i): i for i in range(len(class_names))}
    if str(label) not in names:
        raise InputError(f"label={label} is unknown: choose {', '.join(class_names)} or 0 to {len(class_names) - 1}.")
    return torch.full((count,), names[str(label)])
