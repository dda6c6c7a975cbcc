"""``medsynth generate``: PNGs and a contact sheet from a trained generator."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

from medsynth.contracts import InputError, counter_seed, noise
from medsynth.generator.export import load_generator

SHEET = 100  # images on the contact sheet


def run(config: DictConfig) -> None:
    """Write ``num_samples`` images to ``out/images``, with ``out/contact_sheet.png`` and ``out/generate.json``."""
    source, out = _source(config.run), _target(config.out)
    if config.num_samples < 1 or config.batch_size < 1:
        raise InputError(f"num_samples={config.num_samples} and batch_size={config.batch_size} must be 1 or more.")
    generator, card = load_generator(source)
    labels = _labels(config.label, card["class_names"], config.num_samples)

    # Complete or absent: written under another name and renamed at the end.
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "images").mkdir(parents=True)
    try:
        shown = []
        for start, images in _batches(generator, labels, config):
            for offset, image in enumerate(images):
                _write(temporary / "images" / f"{start + offset:06d}.png", image, config.bits)
            shown += list(images[: SHEET - len(shown)])
        save_image(
            make_grid(torch.stack(shown).clamp(-1, 1) / 2 + 0.5, nrow=10, padding=1), temporary / "contact_sheet.png"
        )
        record = {
            "generator": str(source),
            "seed": config.seed,
            "label": config.label,
            "bits": config.bits,
            "card": card,
        }
        (temporary / "generate.json").write_text(json.dumps(record, indent=2) + "\n")
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    intensity = card["intensity"]
    print(
        f"{config.num_samples} images of {source} are in {out / 'images'}, an overview in {out / 'contact_sheet.png'}; "
        f"black is {intensity['low']:g} and white {intensity['high']:g} {intensity['unit']}."
    )


def _batches(generator: nn.Module, labels: Tensor | None, config: DictConfig) -> Iterator[tuple[int, Tensor]]:
    seed = counter_seed("generate", config.seed)
    for start in tqdm(range(0, config.num_samples, config.batch_size), unit="batch", desc="generating"):
        count = min(config.batch_size, config.num_samples - start)
        z = noise(count, generator.latent_dim, seed=seed, start=start)
        with torch.inference_mode():
            yield start, generator(z, None if labels is None else labels[start : start + count])


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


def _write(path: Path, image: Tensor, bits: int) -> None:
    """One image (C, H, W) in [-1, 1] as PNG over the full range of ``bits``."""
    if bits not in (8, 16) or (bits == 16 and image.shape[0] != 1):
        raise InputError(
            f"bits={bits} cannot be written for {image.shape[0]} channels: choose 8, or 16 with one channel."
        )
    levels = 2**bits - 1
    stored = ((image.double().clamp(-1, 1) + 1) / 2 * levels).round().numpy()
    stored = stored.astype(np.uint16 if bits == 16 else np.uint8)
    Image.fromarray(stored[0] if len(stored) == 1 else stored.transpose(1, 2, 0)).save(path)
