"""The use of a generator or translator in plain values, which stands in the metadata of every exported file."""

from __future__ import annotations

from typing import Any

import medsynth
from medsynth.contracts import Intensity
from medsynth.generator.trained import TrainedGenerator, TrainedTranslator
from medsynth.release.run_record import RunRecord


def usage(record: RunRecord) -> dict[str, Any]:
    """Return the meaning of inputs and outputs: units, spacing, classes, and where the network comes from."""
    trained, card = record.generator, record.generator.card
    inputs = _of_sources(trained) if isinstance(trained, TrainedTranslator) else _of_noise(trained)
    shape = [trained.channels, trained.image_size, trained.image_size]
    return {
        "synthetic": True,
        **inputs,
        "images": f"float32 (N, {', '.join(map(str, shape))}) in [-1, 1]",
        "intensity": _described(trained.intensity)
        | {"to_unit": f"{trained.intensity.low!r} + (images + 1) / 2 * {_width(trained.intensity)!r}"},
        "spacing": card["spacing"],  # millimeters from row to row, and from column to column
        "modality": card["modality"],
        "medsynth": medsynth.__version__,
        "generator_sha256": record.sha256,
    }


def neighbors_of(translator: TrainedTranslator) -> int:
    """Return the slices on either side of the one that is translated, which the network sees as further channels."""
    return int((translator.card["source_statistics"] or {}).get("neighbors", 0))


def _of_noise(generator: TrainedGenerator) -> dict[str, Any]:
    return {
        "noise": f"float32 (N, {generator.network.latent_dim}), standard normal",
        "labels": f"int64 (N,), from 0 to {len(generator.class_names) - 1}" if generator.class_names else None,
        "class_names": list(generator.class_names),
    }


def _of_sources(translator: TrainedTranslator) -> dict[str, Any]:
    size, width, intensity = translator.image_size, translator.network.latent_dim, translator.source_intensity
    statistics = translator.card["source_statistics"] or {}
    return {
        "source": f"float32 (N, {translator.source_channels}, {size}, {size}) in [-1, 1]",
        "neighbors": neighbors_of(translator),  # slices on either side; all are channels, in their order
        "noise": f"float32 (N, {width}), standard normal" if width else None,
        "source_intensity": _described(intensity)
        | {"from_unit": f"(2 * (values - {intensity.low!r}) / {_width(intensity)!r} - 1), clipped to [-1, 1]"},
        "source_modality": statistics.get("modality") or "",
    }


def _described(intensity: Intensity) -> dict[str, Any]:
    return {"low": intensity.low, "high": intensity.high, "unit": intensity.unit}


def _width(intensity: Intensity) -> float:
    return intensity.high - intensity.low
