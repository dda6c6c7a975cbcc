"""``medsynth generate``: write images of a trained generator in the chosen format, with a contact sheet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.utils import make_grid, save_image

import medsynth
from medsynth.contracts import InputError
from medsynth.data.writer import WRITERS, ImageSet, Writer
from medsynth.files import new_folder
from medsynth.generator.trained import TrainedGenerator, load_generator
from medsynth.terminal import Bar

SHEET = 100  # images on the contact sheet


def run(config: DictConfig) -> None:
    """Write ``num_samples`` images to the folder ``out``, with ``contact_sheet.png`` and ``generate.json``."""
    out = Path(config.out)
    if config.format not in WRITERS:
        raise InputError(f"format={config.format} is unknown: choose {', '.join(WRITERS)}.")
    generator = load_generator(config.run, trust=config.trust)
    labels = generator.labels(config.label, config.num_samples)
    digest = _sha256(generator.path)
    images = _image_set(config, generator, digest)

    try:
        with new_folder(out) as folder:  # complete or absent
            writer = WRITERS[config.format](folder, images)
            _write(folder, writer, generator, labels, config)
            record = _record(config, generator, digest, writer.stored)
            record["class_name"] = _class_made(generator, labels, config)
            (folder / "generate.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except FileExistsError as error:
        raise InputError(f"out={out} exists already: name a new folder, so that nothing is overwritten.") from error
    intensity, made = images.intensity, _class_made(generator, labels, config)
    count = f"{config.num_samples} images{f' of class {made}' if made else ''}"
    print(
        f"{count} of {generator.path} are in {out / writer.location}, an overview in {out / 'contact_sheet.png'}: "
        f"black is {intensity.low:g} and white {intensity.high:g} {intensity.unit}."
    )


def _write(
    folder: Path, writer: Writer, generator: TrainedGenerator, labels: Tensor | None, config: DictConfig
) -> None:
    """Write all images and the contact sheet."""
    shown: list[Tensor] = []
    for number, image in enumerate(_images(generator, labels, config)):
        writer.add(number, image, None if labels is None else int(labels[number]))
        if number < SHEET:
            shown.append(image)
    writer.close()
    sheet = make_grid(torch.stack(shown) / 2 + 0.5, nrow=10, padding=1)
    save_image(sheet, folder / "contact_sheet.png")


def _image_set(config: DictConfig, generator: TrainedGenerator, digest: str) -> ImageSet:
    card = generator.card
    spacing = card.get("spacing")  # the cards of older runs have neither this nor the modality
    return ImageSet(
        shape=(config.num_samples, generator.channels, generator.image_size, generator.image_size),
        intensity=generator.intensity,
        spacing=tuple(spacing) if spacing else None,
        modality=card.get("modality") or "",
        class_names=generator.class_names,
        version=medsynth.__version__,
        generator=digest[:16],
        seed=config.seed,
    )


def _images(generator: TrainedGenerator, labels: Tensor | None, config: DictConfig) -> Iterator[Tensor]:
    """Yield the images one by one: float64 (C, H, W) in [-1, 1]."""
    count, size = config.num_samples, config.batch_size
    batches = generator.batches(labels, count=count, seed=config.seed, batch_size=size)
    with Bar(count, "generating", "img") as bar:
        for batch in batches:
            bar.advance(len(batch))
            yield from batch.double()


def _class_made(generator: TrainedGenerator, labels: Tensor | None, config: DictConfig) -> str | None:
    """Return the name of the one class that ``label`` asks for, by its name or index; None: no class is asked for."""
    return None if labels is None or config.label is None else generator.class_names[int(labels[0])]


def _record(config: DictConfig, generator: TrainedGenerator, digest: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of generate.json; ``stored`` is that of ``data.writer.base.Writer``."""
    return {
        "generator": generator.path.name,  # its folder may have a private name; the checksum identifies it
        "generator_sha256": digest,
        "version": medsynth.__version__,
        "num_samples": config.num_samples,
        "seed": config.seed,
        "label": config.label,
        "format": config.format,
        "image_size": generator.image_size,
        "channels": generator.channels,
        "intensity": generator.card["intensity"],
        "stored": stored,
        "spacing": generator.card.get("spacing"),
        "card": generator.card,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
